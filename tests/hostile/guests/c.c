// A check in C that reaches its target by the sockets of its own libc: name lookup, connect, send, receive. It speaks the canonical ABI
// itself, which tests/hostile/src/lib.rs does for guests in text; an author would let wit-bindgen write that.
//
// The libc is the one for wasm32-wasip2 that comes with Rust's target; headers for it do not come along, so what is used of it is declared here.

#include <stddef.h>
#include <stdint.h>

struct sockaddr;
struct addrinfo {
  int flags, family, socktype, protocol;
  unsigned addrlen;
  struct sockaddr *addr;
  char *canonname;
  struct addrinfo *next;
};
int getaddrinfo(const char *, const char *, const struct addrinfo *, struct addrinfo **);
void freeaddrinfo(struct addrinfo *);
const char *gai_strerror(int);
int socket(int, int, int);
int connect(int, const struct sockaddr *, unsigned);
ptrdiff_t send(int, const void *, size_t, int);
ptrdiff_t recv(int, void *, size_t, int);
int close(int);
int snprintf(char *, size_t, const char *, ...);
char *strerror(int);
size_t strlen(const char *);
void *realloc(void *, size_t);
extern _Thread_local int errno;

#define SOCK_STREAM 6
#define EXPORT(name) __attribute__((export_name(name)))

struct text { const char *at; size_t length; };
struct description { struct text name, version, summary, schema, metrics; };
struct list { void *at; size_t length; };
// result<outcome, failure>: an outcome without metrics, findings, attributes and evidence.
struct outcome {
  uint32_t is_failure, state;
  struct text code, summary;
  struct list metrics, findings, attributes;
  uint32_t has_evidence;
  struct text evidence;
};
enum state { up, degraded, down };

#define TEXT(literal) { literal, sizeof(literal) - 1 }

static const struct description says = {
  TEXT("c"), TEXT("0.1.0"), TEXT("A guest of the tests, in C."),
  TEXT("{\"type\":\"object\",\"additionalProperties\":false}"), TEXT("[]"),
};

EXPORT("cabi_realloc") void *cabi_realloc(void *old, size_t had, size_t align, size_t size) {
  (void)had;
  return size ? realloc(old, size) : (void *)align;
}

EXPORT("picket:check/checker@0.1.0#describe") const struct description *describe(void) { return &says; }

static struct outcome answer;
static char words[256];

static struct outcome *told(enum state state, const char *code) {
  answer.state = state;
  answer.code = (struct text){ code, strlen(code) };
  answer.summary = (struct text){ words, strlen(words) };
  return &answer;
}

static struct outcome *failed(const char *code, const char *what) {
  snprintf(words, sizeof words, "%s: %s (%d)", what, strerror(errno), errno);
  return told(down, code);
}

// The monitor's name is the host and the attempt the port: the tests tell a guest by them what to do.
EXPORT("picket:check/checker@0.1.0#run")
struct outcome *run(const char *config, size_t config_length, uint32_t budget, uint32_t attempt, const char *monitor, size_t length) {
  (void)config, (void)config_length, (void)budget;
  char host[256], port[8], reply[64];
  snprintf(host, sizeof host, "%.*s", (int)length, monitor);
  snprintf(port, sizeof port, "%u", attempt);
  struct addrinfo hints = { .socktype = SOCK_STREAM }, *found;
  int code = getaddrinfo(host, port, &hints, &found);
  if (code != 0) {
    snprintf(words, sizeof words, "getaddrinfo: %s", gai_strerror(code));
    return told(down, "c.lookup");
  }
  int fd = socket(found->family, SOCK_STREAM, 0);
  if (fd < 0) return failed("c.socket", "socket");
  if (connect(fd, found->addr, found->addrlen) != 0) return failed("c.connect", "connect");
  static const char request[] = "GET / HTTP/1.0\r\n\r\n";
  if (send(fd, request, sizeof request - 1, 0) != sizeof request - 1) return failed("c.send", "send");
  ptrdiff_t got = recv(fd, reply, sizeof reply - 1, 0);
  if (got < 0) return failed("c.recv", "recv");
  reply[got] = 0;
  close(fd);
  freeaddrinfo(found);
  snprintf(words, sizeof words, "%s", reply);
  return told(up, "ok");
}

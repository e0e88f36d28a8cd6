//! Every way in which a component can reach out, as a guest that tries it: what it shall reach is the monitor's name, the port is the
//! attempt. Owns the guests and what they answer; which targets are tried stands in the tests.

use sandbox::{Outcome, State, Verdict};

use crate::Guest;

/// A way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `picket:net/tcp`; the target is a host.
    Tcp,
    /// `picket:net/http`, three redirects followed; the target is a URL.
    Http,
    /// `picket:net/dns`, which asks a name server for `asked.test`; the target is that server, with or without a port.
    Dns,
    /// `wasi:sockets/ip-name-lookup`, and a connection to each of the addresses until one is made; the target is a host.
    Lookup,
    /// `wasi:sockets/tcp`; the target is an address, in hexadecimal digits.
    Connect,
    /// `wasi:sockets/udp`, once to a peer of the socket and once to the peer of a datagram; as for [`Door::Connect`].
    Datagram,
    /// `wasi:http/outgoing-handler`; the target is an authority.
    WasiHttp,
}

/// What a guest says about its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Somebody answered, or took what was sent.
    Reached,
    /// The number of the cause or error code, as the interface of the door numbers it.
    Refused(u8),
}

impl Door {
    /// All of them.
    pub const ALL: [Door; 7] =
        [Door::Tcp, Door::Http, Door::Dns, Door::Lookup, Door::Connect, Door::Datagram, Door::WasiHttp];

    /// The guest that tries it.
    pub fn guest(self) -> Guest<'static> {
        let (imports, world, items, run) = match self {
            Door::Tcp => (TCP, "", DOWN, TCP_RUN),
            Door::Http => (HTTP, "", HTTP_ITEMS, HTTP_RUN),
            Door::Dns => (DNS, "", DNS_ITEMS, DNS_RUN),
            Door::Lookup => (LOOKUP, SOCKETS_WORLD, DIAL, LOOKUP_RUN),
            Door::Connect => (LOOKUP, SOCKETS_WORLD, DIAL, CONNECT_RUN),
            Door::Datagram => (DATAGRAM, DATAGRAM_WORLD, DATAGRAM_ITEMS, DATAGRAM_RUN),
            Door::WasiHttp => (WASI_HTTP, WASI_HTTP_WORLD, DOWN, WASI_HTTP_RUN),
        };
        Guest { imports, world, items, run, ..Guest::default() }
    }

    /// Whether that is the answer of somebody who refuses, not of somebody who tried and failed.
    pub fn refuses(self, code: u8) -> bool {
        match self {
            // Denied, or invalid.
            Door::Tcp => code == 1,
            Door::Http | Door::Dns => code == 1 || code == 11,
            // Access denied, or an argument that is none.
            Door::Lookup | Door::Connect | Door::Datagram => code == 1 || code == 3,
            // Request denied, a URI that is none, and its kin of an authority that does not even parse.
            Door::WasiHttp => matches!(code, 15 | 19 | 36),
        }
    }

    /// What a run of its guest says.
    ///
    /// # Panics
    /// When it is no answer of such a guest.
    pub fn attempt(verdict: &Verdict) -> Attempt {
        match verdict {
            Verdict::Outcome(Outcome { state: State::Up, .. }) => Attempt::Reached,
            Verdict::Outcome(Outcome { state: State::Down, summary, .. }) => {
                Attempt::Refused(summary.bytes().next().expect("a letter") - b'A')
            }
            other => panic!("no answer of a door: {other:?}"),
        }
    }
}

/// Answers "down", with a number as a letter in the summary. The places are those of the skeleton.
macro_rules! down {
    () => {
        r#"
  (func $down (param $code i32)
    (i32.store8 (i32.const 68) (i32.const 2))
    (i32.store8 (i32.const 1024) (i32.add (local.get $code) (i32.const 65))))"#
    };
}
const DOWN: &str = down!();

/// Puts an address to a place, octets or segments, from hexadecimal digits; says whether it is IPv6.
macro_rules! address {
    () => {
        r#"
  (func $digit (param $at i32) (result i32)
    (local $c i32)
    (local.set $c (i32.load8_u (local.get $at)))
    (select (i32.sub (local.get $c) (i32.const 87)) (i32.sub (local.get $c) (i32.const 48))
      (i32.ge_u (local.get $c) (i32.const 97))))
  (func $octet (param $at i32) (result i32)
    (i32.add (i32.mul (call $digit (local.get $at)) (i32.const 16)) (call $digit (i32.add (local.get $at) (i32.const 1)))))
  (func $read_address (param $text i32) (param $len i32) (param $to i32) (result i32)
    (local $n i32) (local $octet i32) (local $v6 i32)
    (local.set $v6 (i32.gt_u (local.get $len) (i32.const 8)))
    (loop $more
      (local.set $octet (call $octet (i32.add (local.get $text) (i32.mul (local.get $n) (i32.const 2)))))
      ;; Segments are numbers, whose bytes lie the other way round here.
      (i32.store8 (i32.add (local.get $to) (i32.xor (local.get $n) (local.get $v6))) (local.get $octet))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $more (i32.lt_u (i32.mul (local.get $n) (i32.const 2)) (local.get $len))))
    (local.get $v6))"#
    };
}

const TCP: &str = r#"(import "picket:net/tcp@0.1.0" "connect" (func $connect (param i32 i32 i32 i32 i32)))"#;
const TCP_RUN: &str = "
    (call $connect (local.get $monitor) (local.get $monitor_len) (local.get $attempt) (i32.const 0) (i32.const 256))
    (if (i32.load8_u (i32.const 256)) (then (call $down (i32.load8_u (i32.const 260)))))";

const HTTP: &str = r#"(import "picket:net/http@0.1.0" "send" (func $send (param i32 i32)))"#;
const HTTP_ITEMS: &str = concat!(
    down!(),
    r#"
  (data (i32.const 512) "GET")"#
);
/// The request: method, URL, three redirects, a body of a kilobyte; the rest is none and zero.
const HTTP_RUN: &str = "
    (i32.store (i32.const 256) (i32.const 512)) (i32.store (i32.const 260) (i32.const 3))
    (i32.store (i32.const 264) (local.get $monitor)) (i32.store (i32.const 268) (local.get $monitor_len))
    (i32.store8 (i32.const 376) (i32.const 3)) (i32.store (i32.const 380) (i32.const 1024))
    (call $send (i32.const 256) (i32.const 520))
    (if (i32.load8_u (i32.const 520)) (then (call $down (i32.load8_u (i32.const 524)))))";

const DNS: &str = r#"(import "picket:net/dns@0.1.0" "ask"
    (func $ask (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))"#;
const DNS_ITEMS: &str = concat!(
    down!(),
    r#"
  (data (i32.const 512) "asked.testA")"#
);
const DNS_RUN: &str = "
    (call $ask (i32.const 512) (i32.const 10) (i32.const 522) (i32.const 1)
      (i32.const 1) (local.get $monitor) (local.get $monitor_len)
      (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 256))
    (if (i32.load8_u (i32.const 256)) (then (call $down (i32.load8_u (i32.const 260)))))";

const SOCKETS_WORLD: &str = "
    import wasi:sockets/instance-network@0.2.12; import wasi:sockets/ip-name-lookup@0.2.12;
    import wasi:sockets/tcp@0.2.12; import wasi:sockets/tcp-create-socket@0.2.12; import wasi:io/poll@0.2.12;";
const LOOKUP: &str = r#"
    (import "wasi:sockets/instance-network@0.2.12" "instance-network" (func $network (result i32)))
    (import "wasi:sockets/ip-name-lookup@0.2.12" "resolve-addresses" (func $lookup (param i32 i32 i32 i32)))
    (import "wasi:sockets/ip-name-lookup@0.2.12" "[method]resolve-address-stream.resolve-next-address"
      (func $next (param i32 i32)))
    (import "wasi:sockets/ip-name-lookup@0.2.12" "[method]resolve-address-stream.subscribe"
      (func $on_address (param i32) (result i32)))
    (import "wasi:sockets/tcp-create-socket@0.2.12" "create-tcp-socket" (func $create (param i32 i32)))
    (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.start-connect"
      (func $start (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
    (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.finish-connect" (func $finish (param i32 i32)))
    (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.subscribe" (func $on_socket (param i32) (result i32)))
    (import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))
    (import "wasi:io/poll@0.2.12" "[resource-drop]pollable" (func $drop_pollable (param i32)))"#;
/// `$dial` connects to the address that lies at a place: the error's number, or -1.
const DIAL: &str = concat!(
    down!(),
    address!(),
    r#"
  (func $wait (param $pollable i32)
    (call $block (local.get $pollable))
    (call $drop_pollable (local.get $pollable)))
  (func $dial (param $v6 i32) (param $port i32) (param $at i32) (result i32)
    (local $socket i32) (local $net i32)
    (call $create (local.get $v6) (i32.const 700))
    (if (i32.load8_u (i32.const 700)) (then (return (i32.load8_u (i32.const 704)))))
    (local.set $socket (i32.load (i32.const 704)))
    (local.set $net (call $network))
    (if (local.get $v6)
      (then (call $start (local.get $socket) (local.get $net) (i32.const 1) (local.get $port) (i32.const 0)
        (i32.load16_u (local.get $at)) (i32.load16_u offset=2 (local.get $at)) (i32.load16_u offset=4 (local.get $at))
        (i32.load16_u offset=6 (local.get $at)) (i32.load16_u offset=8 (local.get $at)) (i32.load16_u offset=10 (local.get $at))
        (i32.load16_u offset=12 (local.get $at)) (i32.load16_u offset=14 (local.get $at)) (i32.const 0) (i32.const 720)))
      (else (call $start (local.get $socket) (local.get $net) (i32.const 0) (local.get $port)
        (i32.load8_u (local.get $at)) (i32.load8_u offset=1 (local.get $at)) (i32.load8_u offset=2 (local.get $at))
        (i32.load8_u offset=3 (local.get $at)) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 720))))
    (if (i32.load8_u (i32.const 720)) (then (return (i32.load8_u (i32.const 721)))))
    (call $wait (call $on_socket (local.get $socket)))
    (call $finish (local.get $socket) (i32.const 740))
    (if (i32.load8_u (i32.const 740)) (then (return (i32.load8_u (i32.const 744)))))
    (i32.const -1))"#
);
const LOOKUP_RUN: &str = "
    (local $addresses i32) (local $code i32)
    (call $lookup (call $network) (local.get $monitor) (local.get $monitor_len) (i32.const 600))
    (if (i32.load8_u (i32.const 600))
      (then (call $down (i32.load8_u (i32.const 604))) (return (i32.const 64))))
    (local.set $addresses (i32.load (i32.const 604)))
    (local.set $code (i32.const 39))
    (loop $more
      (call $wait (call $on_address (local.get $addresses)))
      (call $next (local.get $addresses) (i32.const 640))
      (if (i32.load8_u (i32.const 640))
        (then (call $down (i32.load8_u (i32.const 642))) (return (i32.const 64))))
      (if (i32.load8_u (i32.const 642))
        (then
          (local.set $code (call $dial (i32.load8_u (i32.const 644)) (local.get $attempt) (i32.const 646)))
          (br_if $more (i32.ge_s (local.get $code) (i32.const 0))))))
    (if (i32.ge_s (local.get $code) (i32.const 0)) (then (call $down (local.get $code))))";
const CONNECT_RUN: &str = "
    (local $code i32)
    (local.set $code (call $dial
      (call $read_address (local.get $monitor) (local.get $monitor_len) (i32.const 660))
      (local.get $attempt) (i32.const 660)))
    (if (i32.ge_s (local.get $code) (i32.const 0)) (then (call $down (local.get $code))))";

const DATAGRAM_WORLD: &str = "
    import wasi:sockets/instance-network@0.2.12;
    import wasi:sockets/udp@0.2.12; import wasi:sockets/udp-create-socket@0.2.12;";
const DATAGRAM: &str = r#"
    (import "wasi:sockets/instance-network@0.2.12" "instance-network" (func $network (result i32)))
    (import "wasi:sockets/udp-create-socket@0.2.12" "create-udp-socket" (func $create (param i32 i32)))
    (import "wasi:sockets/udp@0.2.12" "[method]udp-socket.start-bind"
      (func $bind (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
    (import "wasi:sockets/udp@0.2.12" "[method]udp-socket.finish-bind" (func $bound (param i32 i32)))
    (import "wasi:sockets/udp@0.2.12" "[method]udp-socket.stream"
      (func $stream (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
    (import "wasi:sockets/udp@0.2.12" "[method]outgoing-datagram-stream.check-send" (func $room (param i32 i32)))
    (import "wasi:sockets/udp@0.2.12" "[method]outgoing-datagram-stream.send" (func $send (param i32 i32 i32 i32)))"#;
/// `$socket` makes one that is bound; `$out` its outgoing stream, to a peer when there is one; both end the run where that is refused.
const DATAGRAM_ITEMS: &str = concat!(
    down!(),
    address!(),
    r#"
  (func $must (param $at i32) (if (i32.load8_u (local.get $at)) (then (unreachable))))
  (func $socket (param $v6 i32) (result i32)
    (local $socket i32)
    (call $create (local.get $v6) (i32.const 700))
    (call $must (i32.const 700))
    (local.set $socket (i32.load (i32.const 704)))
    (call $bind (local.get $socket) (call $network) (local.get $v6) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 720))
    (call $must (i32.const 720))
    (call $bound (local.get $socket) (i32.const 720))
    (call $must (i32.const 720))
    (local.get $socket))
  ;; The error's number, or -1; the stream is at 748.
  (func $out (param $socket i32) (param $peer i32) (param $v6 i32) (param $port i32) (param $at i32) (result i32)
    (if (local.get $v6)
      (then (call $stream (local.get $socket) (local.get $peer) (i32.const 1) (local.get $port) (i32.const 0)
        (i32.load16_u (local.get $at)) (i32.load16_u offset=2 (local.get $at)) (i32.load16_u offset=4 (local.get $at))
        (i32.load16_u offset=6 (local.get $at)) (i32.load16_u offset=8 (local.get $at)) (i32.load16_u offset=10 (local.get $at))
        (i32.load16_u offset=12 (local.get $at)) (i32.load16_u offset=14 (local.get $at)) (i32.const 0) (i32.const 740)))
      (else (call $stream (local.get $socket) (local.get $peer) (i32.const 0) (local.get $port)
        (i32.load8_u (local.get $at)) (i32.load8_u offset=1 (local.get $at)) (i32.load8_u offset=2 (local.get $at))
        (i32.load8_u offset=3 (local.get $at)) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 740))))
    (if (i32.load8_u (i32.const 740)) (then (return (i32.load8_u (i32.const 744)))))
    (i32.const -1))
  ;; Sends the datagram at 800.
  (func $sent (result i32)
    (call $room (i32.load (i32.const 748)) (i32.const 760))
    (call $must (i32.const 760))
    (call $send (i32.load (i32.const 748)) (i32.const 800) (i32.const 1) (i32.const 776))
    (if (i32.load8_u (i32.const 776)) (then (return (i32.load8_u (i32.const 784)))))
    (i32.const -1))"#
);
/// Once with a peer for the socket, then with a peer for the datagram alone. Reached when either is.
const DATAGRAM_RUN: &str = "
    (local $v6 i32) (local $code i32)
    (local.set $v6 (call $read_address (local.get $monitor) (local.get $monitor_len) (i32.const 660)))
    (i32.store (i32.const 800) (i32.const 1024)) (i32.store (i32.const 804) (i32.const 4))
    (local.set $code
      (call $out (call $socket (local.get $v6)) (i32.const 1) (local.get $v6) (local.get $attempt) (i32.const 660)))
    (if (i32.eq (local.get $code) (i32.const -1)) (then (local.set $code (call $sent))))
    (if (i32.eq (local.get $code) (i32.const -1)) (then (return (i32.const 64))))
    (if (i32.ne (call $out (call $socket (local.get $v6)) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 660))
          (i32.const -1))
      (then (unreachable)))
    (i32.store8 (i32.const 808) (i32.const 1))
    (i32.store8 (i32.const 812) (local.get $v6))
    (i32.store16 (i32.const 816) (local.get $attempt))
    (memory.copy (select (i32.const 824) (i32.const 818) (local.get $v6)) (i32.const 660)
      (select (i32.const 16) (i32.const 4) (local.get $v6)))
    (local.set $code (call $sent))
    (if (i32.ge_s (local.get $code) (i32.const 0)) (then (call $down (local.get $code))))";

const WASI_HTTP_WORLD: &str = "import wasi:http/outgoing-handler@0.2.12; import wasi:io/poll@0.2.12;";
const WASI_HTTP: &str = r#"
    (import "wasi:http/types@0.2.12" "[constructor]fields" (func $fields (result i32)))
    (import "wasi:http/types@0.2.12" "[constructor]outgoing-request" (func $request (param i32) (result i32)))
    (import "wasi:http/types@0.2.12" "[method]outgoing-request.set-scheme"
      (func $scheme (param i32 i32 i32 i32 i32) (result i32)))
    (import "wasi:http/types@0.2.12" "[method]outgoing-request.set-authority"
      (func $authority (param i32 i32 i32 i32) (result i32)))
    (import "wasi:http/types@0.2.12" "[method]outgoing-request.set-path-with-query"
      (func $path (param i32 i32 i32 i32) (result i32)))
    (import "wasi:http/types@0.2.12" "[method]future-incoming-response.subscribe" (func $on (param i32) (result i32)))
    (import "wasi:http/types@0.2.12" "[method]future-incoming-response.get" (func $response (param i32 i32)))
    (import "wasi:http/outgoing-handler@0.2.12" "handle" (func $handle (param i32 i32 i32 i32)))
    (import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))"#;
/// An authority that cannot be one is refused before anything is sent, as 36 would be.
const WASI_HTTP_RUN: &str = "
    (local $request i32) (local $future i32)
    (local.set $request (call $request (call $fields)))
    (if (call $scheme (local.get $request) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0))
      (then (unreachable)))
    (if (call $authority (local.get $request) (i32.const 1) (local.get $monitor) (local.get $monitor_len))
      (then (call $down (i32.const 36)) (return (i32.const 64))))
    (i32.store8 (i32.const 512) (i32.const 47))
    (if (call $path (local.get $request) (i32.const 1) (i32.const 512) (i32.const 1)) (then (unreachable)))
    (call $handle (local.get $request) (i32.const 0) (i32.const 0) (i32.const 256))
    (if (i32.load8_u (i32.const 256))
      (then (call $down (i32.load8_u (i32.const 264))) (return (i32.const 64))))
    (local.set $future (i32.load (i32.const 264)))
    (call $block (call $on (local.get $future)))
    (call $response (local.get $future) (i32.const 320))
    (if (i32.eqz (i32.load8_u (i32.const 320))) (then (unreachable)))
    (if (i32.load8_u (i32.const 328)) (then (unreachable)))
    (if (i32.load8_u (i32.const 336)) (then (call $down (i32.load8_u (i32.const 344)))))";

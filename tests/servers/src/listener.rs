//! An accept loop on a thread, a thread for each connection, and their end. Does not know what is said on a connection.

use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::Error;

/// A listening socket of 127.0.0.1 whose connections are served by a function; closed, with all its connections, when dropped.
pub(crate) struct Listener {
    port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    closing: AtomicBool,
    /// Second handles of the open connections, to shut them down.
    open: Mutex<Vec<TcpStream>>,
}

impl Listener {
    /// Listens on a free port and serves every connection on a thread of its own.
    pub(crate) fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Result<Listener, Error> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .map_err(|source| Error::Socket { action: "listen on 127.0.0.1", source })?;
        let port = socket
            .local_addr()
            .map_err(|source| Error::Socket { action: "read the address of a socket", source })?
            .port();
        let shared = Arc::new(Shared::default());
        let serve = Arc::new(serve);
        let accepting = thread::spawn({
            let shared = shared.clone();
            move || accept(&socket, &shared, &serve)
        });
        Ok(Listener { port, shared, accepting: Some(accepting) })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Closes what is open; new connections are still served.
    pub(crate) fn hang_up(&self) {
        for stream in self.shared.lock().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept<F: Fn(TcpStream) + Send + Sync + 'static>(
    socket: &TcpListener,
    shared: &Arc<Shared>,
    serve: &Arc<F>,
) {
    for stream in socket.incoming() {
        if shared.closing.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(second) = stream.try_clone() else { continue };
        let Ok(peer) = stream.peer_addr() else { continue };
        shared.lock().push(second);
        let (shared, serve) = (shared.clone(), serve.clone());
        thread::spawn(move || {
            serve(stream);
            // The second handle would keep the connection open.
            shared.lock().retain(|open| open.peer_addr().is_ok_and(|address| address != peer));
        });
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // Wakes the accept loop.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        self.hang_up();
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("port", &self.port).finish_non_exhaustive()
    }
}

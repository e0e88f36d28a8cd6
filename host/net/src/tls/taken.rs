//! Whether a server takes the client certificate that it was shown. Over TLS 1.3 it looks at it only after the handshake, and says so
//! with its first record: a ticket, data, or an alert (RFC 8446, sections 4.6.1 and 4.4.2.4).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::stream::Metered;

/// Waits for the first record after a handshake. A server that says nothing is taken to agree: some send no tickets.
pub(super) async fn heard(stream: &mut TlsStream<Metered>) -> io::Result<()> {
    let first = poll_fn(|context| {
        let (inner, connection) = stream.get_mut();
        while connection.tls13_tickets_received() == 0 {
            match connection.read_tls(&mut Now { inner: &mut *inner, context: &mut *context }) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
            let state = connection
                .process_new_packets()
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            // Data stays in the connection for whoever reads next.
            if state.plaintext_bytes_to_read() > 0 || state.peer_has_closed() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    });
    tokio::time::timeout(SILENCE, first).await.unwrap_or(Ok(()))
}

/// How long a server may say nothing.
const SILENCE: Duration = Duration::from_millis(300);

/// What can be read without waiting; whoever polls is woken when there is more.
struct Now<'a, 'c> {
    inner: &'a mut Metered,
    context: &'a mut Context<'c>,
}

impl io::Read for Now<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut *self.inner).poll_read(self.context, &mut buffer) {
            Poll::Ready(read) => read.map(|()| buffer.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

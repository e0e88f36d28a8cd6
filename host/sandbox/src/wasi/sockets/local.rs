//! Our side of a socket, the same for TCP and UDP: a binding that binds nothing, and numbers that are remembered and told back. How a
//! socket is really made is the host's.

use std::net::SocketAddr;

use super::network::{ErrorCode, IpAddressFamily};

/// Our side of a socket.
pub(super) struct Local {
    pub(super) family: IpAddressFamily,
    binding: Binding,
    /// How many routers a packet may pass.
    pub(super) hops: u8,
    /// Bytes of the buffers.
    pub(super) receive: u64,
    pub(super) send: u64,
}

enum Binding {
    None,
    Begun,
    Done,
}

impl Local {
    /// With buffers of so many bytes, as Linux has them.
    pub(super) fn new(family: IpAddressFamily, receive: u64, send: u64) -> Self {
        Local { family, binding: Binding::None, hops: 64, receive, send }
    }

    /// Begins to bind the socket to "any address, any port"; others are denied.
    pub(super) fn start_bind(&mut self, local: SocketAddr) -> Result<(), ErrorCode> {
        match self.binding {
            Binding::None if is_unspecified(local, self.family) => {
                self.binding = Binding::Begun;
                Ok(())
            }
            Binding::None => Err(ErrorCode::AccessDenied),
            Binding::Begun | Binding::Done => Err(ErrorCode::InvalidState),
        }
    }

    pub(super) fn finish_bind(&mut self) -> Result<(), ErrorCode> {
        match self.binding {
            Binding::Begun => {
                self.binding = Binding::Done;
                Ok(())
            }
            Binding::None | Binding::Done => Err(ErrorCode::NotInProgress),
        }
    }

    /// Whether a binding was begun and not finished.
    pub(super) fn is_binding(&self) -> bool {
        matches!(self.binding, Binding::Begun)
    }

    /// Whether it is bound.
    pub(super) fn is_bound(&self) -> bool {
        matches!(self.binding, Binding::Done)
    }

    /// The address of one that is bound and nothing more.
    pub(super) fn address(&self) -> Result<SocketAddr, ErrorCode> {
        match (self.is_bound(), self.family) {
            (false, _) => Err(ErrorCode::InvalidState),
            (true, IpAddressFamily::Ipv4) => Ok(([0, 0, 0, 0], 0).into()),
            (true, IpAddressFamily::Ipv6) => Ok(([0u16; 8], 0).into()),
        }
    }
}

/// Sets a number that may not be zero.
pub(super) fn set<T: Default + PartialEq>(number: &mut T, value: T) -> Result<(), ErrorCode> {
    if value == T::default() {
        return Err(ErrorCode::InvalidArgument);
    }
    *number = value;
    Ok(())
}

/// Whether an address says only "any address, any port", the one thing that a socket may be bound to.
fn is_unspecified(local: SocketAddr, family: IpAddressFamily) -> bool {
    local.is_ipv6() == (family == IpAddressFamily::Ipv6) && local.ip().is_unspecified() && local.port() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_bound_to_nothing_but_any_address_and_port() {
        for (address, expected) in
            [("0.0.0.0:0", true), ("0.0.0.0:53", false), ("127.0.0.1:0", false), ("[::]:0", false)]
        {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(is_unspecified(address, IpAddressFamily::Ipv4), expected, "{address}");
        }
        assert!(is_unspecified("[::]:0".parse().unwrap(), IpAddressFamily::Ipv6));
    }

    #[test]
    fn a_binding_is_begun_and_finished_once() {
        let any = "0.0.0.0:0".parse().unwrap();
        let mut local = Local::new(IpAddressFamily::Ipv4, 1, 1);
        assert_eq!(local.finish_bind(), Err(ErrorCode::NotInProgress));
        assert_eq!(local.start_bind("127.0.0.1:80".parse().unwrap()), Err(ErrorCode::AccessDenied));
        assert_eq!((local.start_bind(any), local.is_binding()), (Ok(()), true));
        assert_eq!(local.start_bind(any), Err(ErrorCode::InvalidState));
        assert_eq!(local.address(), Err(ErrorCode::InvalidState));
        assert_eq!((local.finish_bind(), local.is_bound()), (Ok(()), true));
        assert_eq!(local.address(), Ok(any));
        assert_eq!(local.finish_bind(), Err(ErrorCode::NotInProgress));
    }

    #[test]
    fn a_number_may_not_be_zero() {
        let mut hops = 64_u8;
        assert_eq!((set(&mut hops, 0), hops), (Err(ErrorCode::InvalidArgument), 64));
        assert_eq!((set(&mut hops, 3), hops), (Ok(()), 3));
    }
}

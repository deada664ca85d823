//! What a proxy says of a connection before the client's bytes: PROXY protocol, version 2.
//!
//! Its text form (version 1) is refused: it has no length in front, and its end has to be searched for.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of the part that every header begins with; its end says how long the rest is.
pub const PREFIX_BYTES: usize = 16;

/// Most bytes after the prefix. What load balancers add (names, TLS details) is far shorter.
pub const REST_BYTES_MAX: usize = 4096;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_2: u8 = 0x20;
const COMMAND_LOCAL: u8 = 0;
const COMMAND_PROXY: u8 = 1;
const UNSPECIFIED: u8 = 0x00;
const TCP_4: u8 = 0x11;
const TCP_6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;

/// Bytes of two addresses and two ports.
const TCP_4_BYTES: usize = 12;
const TCP_6_BYTES: usize = 36;
/// Bytes of two paths.
const UNIX_BYTES: usize = 216;

/// The first 16 bytes of a connection, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// How many bytes of the header follow; at most [`REST_BYTES_MAX`].
    pub rest_bytes: usize,
    is_local: bool,
    family: u8,
}

/// Why a connection does not begin as it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeProxyHeaderError {
    /// It is no header of PROXY protocol, or one of version 1.
    #[error("connection does not begin with a header of proxy protocol 2")]
    Signature,
    /// Another version, or a command that version 2 does not have.
    #[error("unknown version or command")]
    Command,
    /// The connection that it speaks of is none of TCP.
    #[error("not about a connection of tcp")]
    Family,
    /// There is more than anybody needs.
    #[error("header is too long")]
    TooLong,
    /// The addresses, or what follows them, are cut short.
    #[error("header ends too early")]
    Truncated,
}

impl Prefix {
    /// Understands the beginning of a connection.
    ///
    /// # Errors
    ///
    /// When it is not what a proxy sends. The connection is to be closed: nothing after it can be trusted.
    pub fn decode(bytes: [u8; PREFIX_BYTES]) -> Result<Self, DecodeProxyHeaderError> {
        let (signature, rest) = bytes.split_at(SIGNATURE.len());
        let &[command, family, length_high, length_low] = rest else {
            return Err(DecodeProxyHeaderError::Signature);
        };
        if signature != SIGNATURE {
            return Err(DecodeProxyHeaderError::Signature);
        }
        let is_local = match command ^ VERSION_2 {
            COMMAND_LOCAL => true,
            COMMAND_PROXY => false,
            _ => return Err(DecodeProxyHeaderError::Command),
        };
        let rest_bytes = usize::from(u16::from_be_bytes([length_high, length_low]));
        if rest_bytes > REST_BYTES_MAX {
            return Err(DecodeProxyHeaderError::TooLong);
        }
        Ok(Self { rest_bytes, is_local, family })
    }

    /// Returns the client's address; none if the proxy speaks for itself (its health check, say) or does not know it, so
    /// that the connection's own address is the one to go by.
    ///
    /// # Errors
    ///
    /// When the rest is not what a proxy sends.
    pub fn client(self, rest: &[u8]) -> Result<Option<IpAddr>, DecodeProxyHeaderError> {
        if self.is_local {
            // What follows is to be skipped, whatever it is.
            return Ok(None);
        }
        let (client, address_bytes) = match self.family {
            UNSPECIFIED => return Ok(None),
            TCP_4 => {
                let octets: [u8; 4] = first(rest)?;
                (Some(Ipv4Addr::from(octets).into()), TCP_4_BYTES)
            }
            TCP_6 => {
                let octets: [u8; 16] = first(rest)?;
                (Some(Ipv6Addr::from(octets).to_canonical()), TCP_6_BYTES)
            }
            UNIX_STREAM => (None, UNIX_BYTES),
            _ => return Err(DecodeProxyHeaderError::Family),
        };
        let extensions = rest.get(address_bytes..).ok_or(DecodeProxyHeaderError::Truncated)?;
        check_extensions(extensions)?;
        Ok(client)
    }
}

fn first<const COUNT: usize>(bytes: &[u8]) -> Result<[u8; COUNT], DecodeProxyHeaderError> {
    bytes.first_chunk().copied().ok_or(DecodeProxyHeaderError::Truncated)
}

/// Each has a type, a length of two bytes, and a value. None is of interest here.
fn check_extensions(mut bytes: &[u8]) -> Result<(), DecodeProxyHeaderError> {
    while !bytes.is_empty() {
        let [_, high, low] = first(bytes)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let value = bytes.get(3..).ok_or(DecodeProxyHeaderError::Truncated)?;
        bytes = value.get(length..).ok_or(DecodeProxyHeaderError::Truncated)?;
    }
    Ok(())
}

//! What must hold for any bytes that a connection begins with.

use edge_protocol::proxy_protocol::{PREFIX_BYTES, Prefix, REST_BYTES_MAX};

/// A header never asks for more than its bound, means the same each time, and an address in it is the one that it has.
pub fn proxy_protocol(data: &[u8]) {
    let Some((prefix, rest)) = data.split_first_chunk::<PREFIX_BYTES>() else { return };
    let Ok(prefix) = Prefix::decode(*prefix) else { return };
    assert!(prefix.rest_bytes <= REST_BYTES_MAX);
    assert!(data.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));

    let Some(rest) = rest.get(..prefix.rest_bytes) else { return };
    let client = prefix.client(rest);

    assert_eq!(client, prefix.client(rest));
    if let Ok(Some(address)) = client {
        let family = data[13];
        let told = match family {
            0x11 => std::net::IpAddr::from(<[u8; 4]>::try_from(&rest[..4]).unwrap()),
            0x21 => {
                std::net::IpAddr::from(<[u8; 16]>::try_from(&rest[..16]).unwrap()).to_canonical()
            }
            other => panic!("an address of family {other}"),
        };
        assert_eq!(address, told);
    }
}

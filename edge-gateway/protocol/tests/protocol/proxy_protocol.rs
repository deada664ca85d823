//! Headers of PROXY protocol, as load balancers send them and as nobody should.

use edge_protocol::proxy_protocol::{DecodeProxyHeaderError, PREFIX_BYTES, Prefix, REST_BYTES_MAX};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

fn client(header: &[u8]) -> Result<Option<String>, DecodeProxyHeaderError> {
    let (prefix, rest) = header.split_first_chunk::<PREFIX_BYTES>().unwrap();
    let prefix = Prefix::decode(*prefix)?;
    assert_eq!(prefix.rest_bytes, rest.len());
    Ok(prefix.client(rest)?.map(|address| address.to_string()))
}

fn tcp_4() -> Vec<u8> {
    [[203, 0, 113, 7], [192, 0, 2, 1]].concat().into_iter().chain([0xc0, 1, 0, 80]).collect()
}

#[test]
fn the_client_is_who_the_proxy_says() {
    let of_6 = |source: &str| {
        let source: std::net::Ipv6Addr = source.parse().unwrap();
        [&source.octets()[..], &[0; 16], &[0xc0, 1, 0, 80]].concat()
    };

    assert_eq!(client(&header(0x21, 0x11, &tcp_4())), Ok(Some("203.0.113.7".to_owned())));
    let in_6 = client(&header(0x21, 0x21, &of_6("2001:db8::7")));
    assert_eq!(in_6, Ok(Some("2001:db8::7".to_owned())));
    let mapped = client(&header(0x21, 0x21, &of_6("::ffff:203.0.113.7")));
    assert_eq!(mapped, Ok(Some("203.0.113.7".to_owned())));
    let with_extensions = [&tcp_4()[..], &[4, 0, 2, 0, 0, 0x20, 0, 0]].concat();
    let extended = client(&header(0x21, 0x11, &with_extensions));
    assert_eq!(extended, Ok(Some("203.0.113.7".to_owned())));
}

#[test]
fn a_proxy_may_speak_for_itself() {
    assert_eq!(client(&header(0x20, 0x00, b"")), Ok(None));
    assert_eq!(client(&header(0x20, 0x11, &tcp_4())), Ok(None), "a health check");
    assert_eq!(client(&header(0x21, 0x00, b"whatever")), Ok(None));
    assert_eq!(client(&header(0x21, 0x31, &[b'/'; 216])), Ok(None));
}

#[test]
fn what_is_not_version_2_of_tcp_is_refused() {
    let cases = [
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\r\n"[..16].to_vec(), "Signature"),
        (b"GET / HTTP/1.1\r\n".to_vec(), "Signature"),
        (header(0x11, 0x11, &tcp_4()), "Command"),
        (header(0x31, 0x11, &tcp_4()), "Command"),
        (header(0x22, 0x11, &tcp_4()), "Command"),
        (header(0x21, 0x12, &tcp_4()), "Family"),
        (header(0x21, 0x22, &[0; 36]), "Family"),
        (header(0x21, 0x41, &tcp_4()), "Family"),
        (header(0x21, 0x11, &tcp_4()[..11]), "Truncated"),
        (header(0x21, 0x21, &[0; 35]), "Truncated"),
        (header(0x21, 0x31, &[0; 215]), "Truncated"),
        (header(0x21, 0x11, &[&tcp_4()[..], &[4, 0, 2, 0]].concat()), "Truncated"),
        (header(0x21, 0x11, &[&tcp_4()[..], &[4, 0]].concat()), "Truncated"),
    ];
    for (bytes, expected) in cases {
        let refused = client(&bytes).unwrap_err();
        assert_eq!(format!("{refused:?}"), expected, "{bytes:?}");
    }
}

#[test]
fn a_header_may_be_so_long_and_no_longer() {
    let longest = header(0x20, 0x00, &[0; REST_BYTES_MAX]);
    let longer = header(0x20, 0x00, &[0; REST_BYTES_MAX + 1]);

    assert_eq!(client(&longest), Ok(None));
    assert_eq!(client(&longer), Err(DecodeProxyHeaderError::TooLong));
}

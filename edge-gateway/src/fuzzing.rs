//! What must hold of what this crate itself reads of a request, for any input. The fuzzer of the workspace calls these.

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderName, HeaderValue, Method, Request, Uri, header};

use crate::{
    application::Application,
    client_address::ClientAddresses,
    config::{ClientAddressConfig, ForwardedHeader},
    cors::AllowedOrigin,
    origins::Origins,
    request::{self, Asked},
};

const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));

/// The headers in which proxies say where a client is: a value on each line. A stranger cannot say anything of itself, and
/// what it says before a proxy's last word changes nothing.
pub fn forwarded_address(data: &[u8]) {
    let values: Vec<_> = data
        .split(|byte| *byte == b'\n')
        .filter_map(|line| HeaderValue::from_bytes(line).ok())
        .collect();
    for (forwarded_header, name) in [
        (ForwardedHeader::XForwardedFor, HeaderName::from_static("x-forwarded-for")),
        (ForwardedHeader::Forwarded, header::FORWARDED),
    ] {
        let addresses = ClientAddresses::of(&ClientAddressConfig {
            trusted_proxies: ["10.0.0.0/8".parse()].into_iter().flatten().collect(),
            forwarded_header,
            proxy_protocol: false,
        });
        let mut headers: http::HeaderMap =
            values.iter().map(|value| (name.clone(), value.clone())).collect();
        assert_eq!(addresses.client(STRANGER, &headers), STRANGER);
        let _ = addresses.client(PROXY, &headers);

        let last_word = HeaderValue::from_static(match forwarded_header {
            ForwardedHeader::XForwardedFor => "203.0.113.7",
            ForwardedHeader::Forwarded => "for=203.0.113.7",
        });
        headers.append(name, last_word);
        assert_eq!(addresses.client(PROXY, &headers).to_string(), "203.0.113.7");
    }
}

/// A request: its method, its target and then its headers, each on a line. Nothing is asked for without a host, no session
/// is named that we could not have given out, and pages of other origins are refused whatever else they say.
pub fn http_request(data: &[u8]) {
    let Some((request, has_foreign_origin)) = parse(data) else { return };
    let has_host = request.headers().get_all(header::HOST).iter().count() == 1;
    for allows_eio3 in [false, true] {
        let Ok(asked) = request::classify(&request, Application::Services, allows_eio3, None)
        else {
            continue;
        };
        assert!(has_host);
        match asked {
            Asked::Upgrade { .. } => assert_eq!(request.method(), Method::GET),
            Asked::OpenPolling { older } => assert!(older.is_none() || allows_eio3),
            Asked::Poll { session } | Asked::Post { session } => {
                let text = session.to_string();
                assert!(request.uri().query().is_some_and(|query| query.contains(&text)));
            }
            Asked::ClientFile(_) | Asked::Preflight | Asked::Page => {}
        }
    }
    drop(request::first_subprotocol(request.headers()));
    let ours = AllowedOrigin::One("https://ours.example".to_owned());
    assert!(!has_foreign_origin || !Origins::of(&[ours]).admit(request.headers()));
}

/// Returns a request, and whether it names an origin that is not ours.
fn parse(data: &[u8]) -> Option<(Request<()>, bool)> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let method = Method::from_bytes(lines.next()?).ok()?;
    let target: Uri = lines.next()?.try_into().ok()?;
    let mut request = Request::builder().method(method).uri(target).body(()).ok()?;
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(colon);
        let name = HeaderName::from_bytes(name).ok()?;
        request.headers_mut().append(name, HeaderValue::from_bytes(value.get(1..)?).ok()?);
    }
    let mut origins = request.headers().get_all(header::ORIGIN).iter();
    let is_foreign = origins.any(|origin| origin != "https://ours.example");
    Some((request, is_foreign))
}

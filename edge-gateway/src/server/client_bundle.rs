//! The files of socket.io-client that browsers load from where they connect to.

use std::{fs, io, path::Path};

use axum::body::Body;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use flate2::Compression;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use sha1::{Digest, Sha1};

use super::content_coding::ContentCoding;
use crate::config::ConfigError;

/// What the reference server serves. Nothing else of the folder can be asked for.
const NAMES: [&str; 8] = [
    "socket.io.js",
    "socket.io.js.map",
    "socket.io.min.js",
    "socket.io.min.js.map",
    "socket.io.esm.min.js",
    "socket.io.esm.min.js.map",
    "socket.io.msgpack.min.js",
    "socket.io.msgpack.min.js.map",
];

/// They may be kept, and must be asked for again: a name stays the same when its content changes.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=0");

/// The files, read and compressed once.
#[derive(Debug)]
pub(crate) struct ClientBundle {
    files: Vec<ClientFile>,
}

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClientFile {
    name: &'static str,
    plain: Representation,
    gzip: Representation,
}

#[derive(Debug, PartialEq, Eq)]
struct Representation {
    body: Bytes,
    etag: HeaderValue,
}

impl ClientBundle {
    /// Reads the files from the folder `dist` of socket.io-client.
    pub(crate) fn load(folder: &Path) -> Result<Self, ConfigError> {
        let files = NAMES.iter().map(|name| {
            ClientFile::read(folder, name).map_err(|error| ConfigError::ClientBundle {
                file: folder.join(name),
                kind: error.kind(),
            })
        });
        Ok(Self { files: files.collect::<Result<_, _>>()? })
    }

    pub(crate) fn file(&self, name: &str) -> Option<&ClientFile> {
        self.files.iter().find(|file| file.name == name)
    }
}

impl ClientFile {
    fn read(folder: &Path, name: &'static str) -> io::Result<Self> {
        let content = fs::read(folder.join(name))?;
        let gzip = ContentCoding::Gzip.encode(Compression::best(), &content)?;
        let (plain, gzip) = (Representation::new(content)?, Representation::new(gzip)?);
        Ok(Self { name, plain, gzip })
    }

    pub(super) fn answer(&self, request: &HeaderMap) -> Response<Body> {
        let is_gzip = ContentCoding::accepted(request) == Some(ContentCoding::Gzip);
        let Representation { body, etag } = if is_gzip { &self.gzip } else { &self.plain };
        let is_known = is_known(request, etag);
        let body = if is_known { Bytes::new() } else { body.clone() };
        let mut response = Response::new(Body::from(body));
        let headers = response.headers_mut();
        headers.insert(header::ETAG, etag.clone());
        headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        headers.insert(header::CONTENT_TYPE, self.content_type());
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if is_gzip {
            headers.insert(header::CONTENT_ENCODING, ContentCoding::Gzip.name());
        }
        response
    }

    fn content_type(&self) -> HeaderValue {
        HeaderValue::from_static(if self.name.ends_with(".map") {
            "application/json; charset=utf-8"
        } else {
            "text/javascript; charset=utf-8"
        })
    }
}

impl Representation {
    fn new(body: Vec<u8>) -> io::Result<Self> {
        // It tells contents apart, and nobody gains from a collision in files that the operator has put there.
        let digest = URL_SAFE_NO_PAD.encode(Sha1::digest(&body));
        let etag = HeaderValue::try_from(format!("\"{digest}\"")).map_err(io::Error::other)?;
        Ok(Self { body: body.into(), etag })
    }
}

/// Whether the client has this already (RFC 9110 §13.1.2, by weak comparison).
fn is_known(request: &HeaderMap, etag: &HeaderValue) -> bool {
    let given = request.get_all(header::IF_NONE_MATCH).iter();
    given.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|one| {
        let one = one.trim();
        one == "*" || one.strip_prefix("W/").unwrap_or(one) == etag
    })
}

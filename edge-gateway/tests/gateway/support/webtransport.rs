//! A client on WebTransport that reads and writes raw frames, by another implementation of HTTP/3 than the edge's.

use std::{fs, net::SocketAddr};

use tempfile::TempDir;
use wtransport::{
    ClientConfig, Connection, Endpoint, Identity, RecvStream, SendStream,
    endpoint::{ConnectOptions, endpoint_side},
    error::{ConnectingError, StreamReadExactError},
    tls::Sha256Digest,
};

use super::within;

/// A certificate for one edge, and the files it is read from.
pub(crate) struct Certificate {
    folder: TempDir,
    hash: Sha256Digest,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        Self::in_folder(TempDir::new().unwrap())
    }

    /// Another one, in the files of this one.
    pub(crate) fn replaced(self) -> Self {
        Self::in_folder(self.folder)
    }

    fn in_folder(folder: TempDir) -> Self {
        let identity = Identity::self_signed(["localhost", "127.0.0.1"]).unwrap();
        let certificate = &identity.certificate_chain().as_slice()[0];
        fs::write(folder.path().join("certificate.pem"), certificate.to_pem()).unwrap();
        fs::write(folder.path().join("key.pem"), identity.private_key().to_secret_pem()).unwrap();
        Self { hash: certificate.hash(), folder }
    }

    /// What an edge is started with.
    pub(crate) fn flags(&self) -> [String; 3] {
        let folder = self.folder.path().display();
        [
            "--edge-webtransport-listen=127.0.0.1:0".to_owned(),
            format!("--edge-webtransport-certificate={folder}/certificate.pem"),
            format!("--edge-webtransport-key={folder}/key.pem"),
        ]
    }

    /// As [`flags`](Self::flags), for one that shows the certificate to clients of TLS too.
    pub(crate) fn shared_flags(&self) -> [String; 3] {
        self.flags().map(|flag| {
            flag.replace("webtransport-certificate", "tls-cert-file")
                .replace("webtransport-key", "tls-key-file")
        })
    }
}

/// One session and its stream.
pub(crate) struct WebTransportClient {
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    _endpoint: Endpoint<endpoint_side::Client>,
}

impl WebTransportClient {
    /// Asks for a session and opens a stream, which the edge does not see before something is written to it.
    pub(crate) async fn connect(
        address: SocketAddr,
        certificate: &Certificate,
        path: &str,
    ) -> Result<Self, ConnectingError> {
        Self::connect_from(None, address, certificate, path).await
    }

    /// As [`connect`](Self::connect), from a page of this origin.
    pub(crate) async fn connect_from(
        origin: Option<&str>,
        address: SocketAddr,
        certificate: &Certificate,
        path: &str,
    ) -> Result<Self, ConnectingError> {
        let config = ClientConfig::builder()
            .with_bind_default()
            .with_server_certificate_hashes([certificate.hash.clone()])
            .build();
        let endpoint = Endpoint::client(config).unwrap();
        let mut request = ConnectOptions::builder(format!("https://{address}{path}"));
        if let Some(origin) = origin {
            request = request.add_header("origin", origin);
        }
        let connection = within("a session", endpoint.connect(request.build())).await?;
        let stream = within("a stream", async { connection.open_bi().await.unwrap().await });
        let (send, recv) = stream.await.unwrap();
        Ok(Self { connection, send, recv, _endpoint: endpoint })
    }

    /// Writes bytes that need not be a frame.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        within("a write", self.send.write_all(bytes)).await.unwrap();
    }

    async fn write_frame(&mut self, kind: u8, payload: &[u8]) {
        let mut frame = match payload.len() {
            len @ ..126 => vec![kind | u8::try_from(len).unwrap()],
            len @ ..65536 => {
                let [high, low] = u16::try_from(len).unwrap().to_be_bytes();
                vec![kind | 126, high, low]
            }
            len => [&[kind | 127][..], &(len as u64).to_be_bytes()].concat(),
        };
        frame.extend_from_slice(payload);
        self.write(&frame).await;
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.write_frame(0, text.as_bytes()).await;
    }

    pub(crate) async fn send_binary(&mut self, bytes: &[u8]) {
        self.write_frame(0x80, bytes).await;
    }

    async fn read(&mut self, len: usize) -> Result<Vec<u8>, StreamReadExactError> {
        let mut bytes = vec![0; len];
        within("bytes", self.recv.read_exact(&mut bytes)).await?;
        Ok(bytes)
    }

    /// The next frame: whether it is binary, and what is in it. None once the stream has ended.
    async fn frame(&mut self) -> Option<(bool, Vec<u8>)> {
        let first = self.read(1).await.ok()?[0];
        let len = match first & 0x7F {
            126 => u16::from_be_bytes(self.read(2).await.unwrap().try_into().unwrap()).into(),
            127 => u64::from_be_bytes(self.read(8).await.unwrap().try_into().unwrap()),
            len => len.into(),
        };
        let payload = self.read(len.try_into().unwrap()).await.unwrap();
        Some((first & 0x80 != 0, payload))
    }

    /// The next frame, which must be text.
    pub(crate) async fn text(&mut self) -> String {
        let (is_binary, payload) = self.frame().await.unwrap();
        assert!(!is_binary, "{payload:?}");
        String::from_utf8(payload).unwrap()
    }

    /// The next frame, which must be binary.
    pub(crate) async fn binary(&mut self) -> Vec<u8> {
        let (is_binary, payload) = self.frame().await.unwrap();
        assert!(is_binary, "{payload:?}");
        payload
    }

    /// Reads to the end of the stream and of the session; returns the text frames on the way.
    pub(crate) async fn until_its_end(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some((_, payload)) = self.frame().await {
            texts.push(String::from_utf8(payload).unwrap());
        }
        within("the session's end", self.connection.closed()).await;
        texts
    }
}

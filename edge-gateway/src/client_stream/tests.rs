//! Streams with TLS between two ends of a connection of TCP.

use std::{mem::size_of, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig, ServerConnection,
    pki_types::{PrivateKeyDer, ServerName},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time,
};
use tokio_rustls::{TlsConnector, client};

use super::*;

const DEADLINE: Duration = Duration::from_secs(60);

/// A connection without TLS.
async fn plain() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(connected, listener.accept());
    (client.unwrap(), accepted.unwrap().0)
}

/// A client of another implementation of the I/O, and the stream under test.
async fn secured() -> (client::TlsStream<TcpStream>, ClientStream) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = service_kit::tls::provider;
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (near, far) = plain().await;
    let name = ServerName::try_from("localhost").unwrap();
    let connected = TlsConnector::from(Arc::new(client)).connect(name, near);
    let session = ServerConnection::new(Arc::new(server)).unwrap();
    let (client, accepted) = tokio::join!(connected, handshake(far, session));
    (client.unwrap(), accepted.unwrap().0)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    time::timeout(DEADLINE, future).await.unwrap()
}

/// Reads as the shards do, to the end or until there are `count` bytes.
async fn read(stream: &ClientStream, count: usize) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = [0; 1000];
    while all.len() < count {
        within(std::future::poll_fn(|cx| stream.poll_read_ready(cx))).await?;
        match stream.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => all.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

#[test]
fn a_stream_without_tls_is_no_larger_than_its_connection() {
    assert_eq!(size_of::<ClientStream>(), size_of::<TcpStream>());
}

#[tokio::test]
async fn a_megabyte_goes_both_ways() {
    let (mut client, stream) = secured().await;
    let sent = pattern(1_000_000);

    let upload = async {
        client.write_all(&sent).await.unwrap();
        client.flush().await.unwrap();
        let mut answer = vec![0; sent.len()];
        client.read_exact(&mut answer).await.unwrap();
        answer
    };
    let echo = async {
        let received = read(&stream, sent.len()).await.unwrap();
        stream.write_all(&received).await.unwrap();
        received
    };
    let (answer, received) = within(async { tokio::join!(upload, echo) }).await;

    assert!(received == sent && answer == sent);
    assert!(!stream.has_unsent());
}

#[tokio::test]
async fn several_buffers_are_written_in_their_order() {
    let (mut client, stream) = secured().await;

    let slices = [&b"one "[..], b"", b"two ", b"three"].map(IoSlice::new);
    let written = stream.try_write_vectored(&slices).unwrap();

    assert_eq!(written, 13);
    let mut text = [0; 13];
    within(client.read_exact(&mut text)).await.unwrap();
    assert_eq!(&text, b"one two three");
}

#[tokio::test]
async fn what_was_deciphered_and_not_read_goes_along_to_another_thread() {
    let (mut client, stream) = secured().await;
    client.write_all(&pattern(3000)).await.unwrap();
    client.flush().await.unwrap();
    let first = read(&stream, 1000).await.unwrap();
    assert_eq!(first.len(), 1000);

    let detached = stream.detach().unwrap();
    let rest = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stream = detached.attach().unwrap();
            let rest = read(&stream, 2000).await.unwrap();
            stream.write_all(b"done").await.unwrap();
            rest
        })
    });

    let mut answer = [0; 4];
    within(client.read_exact(&mut answer)).await.unwrap();
    assert!(rest.join().unwrap() == pattern(3000)[1000..]);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_noticed_and_gets_all_once_it_reads() {
    let (mut client, stream) = secured().await;
    let chunk = [7; 100_000];

    let mut taken = 0;
    loop {
        match stream.try_write(&chunk) {
            Ok(written) => taken += written,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                break;
            }
        }
    }

    assert!(stream.has_unsent());
    let mut all = vec![0; taken];
    let reading = async {
        client.read_exact(&mut all).await.unwrap();
    };
    let flushing = async {
        std::future::poll_fn(|cx| stream.poll_flush_unsent(cx)).await.unwrap();
    };
    within(async { tokio::join!(reading, flushing) }).await;
    assert!(!stream.has_unsent());
    assert!(all.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn an_end_is_announced_and_the_other_direction_goes_on() {
    let (mut client, stream) = secured().await;

    stream.write_all(b"last words").await.unwrap();
    stream.end().await.unwrap();

    // Another implementation takes an end without an announcement for an error.
    let mut heard = String::new();
    within(client.read_to_string(&mut heard)).await.unwrap();
    assert_eq!(heard, "last words");
    client.write_all(b"and mine").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read(&stream, usize::MAX).await.unwrap(), b"and mine");
}

#[tokio::test]
async fn a_connection_that_is_cut_off_is_no_error() {
    let (mut client, stream) = secured().await;
    // With something unread, the kernel would reset the connection.
    stream.write_all(b"hello").await.unwrap();
    within(client.read_exact(&mut [0; 5])).await.unwrap();
    client.write_all(b"words").await.unwrap();
    client.flush().await.unwrap();

    drop(client.into_inner().0);

    assert_eq!(read(&stream, usize::MAX).await.unwrap(), b"words");
}

#[tokio::test]
async fn a_record_that_was_changed_on_the_way_is_an_error() {
    let (client, stream) = secured().await;
    let (mut tcp, _) = client.into_inner();

    // Data under the right header, and under no key.
    let mut record = vec![23, 3, 3, 0, 64];
    record.extend([0; 64]);
    tcp.write_all(&record).await.unwrap();

    let error = read(&stream, 1).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn what_is_no_handshake_is_an_error_and_an_end_is_none() {
    for (bytes, is_hung_up) in [
        (&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], false),
        (&[22, 3, 1, 0, 5, 1, 0, 0, 1, 0], false),
        (&[22, 3, 1], true),
        (b"", true),
    ] {
        let (mut client, far) = plain().await;
        let server = server_without_certificate();
        let session = ServerConnection::new(server).unwrap();

        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();

        let error = within(handshake(far, session)).await.map(|_| ()).unwrap_err();
        assert_eq!(matches!(error, HandshakeError::HungUp), is_hung_up, "{bytes:?}: {error}");
    }
}

fn server_without_certificate() -> Arc<ServerConfig> {
    let server = ServerConfig::builder_with_provider(service_kit::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
    Arc::new(server)
}

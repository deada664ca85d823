//! Connections between services, over real sockets, with certificates of authorities that the tests make.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod authority;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::ExtendedKeyUsagePurpose;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName, version::TLS13};
use service_kit::{
    grpc::{Accepted, Incoming, OPENING_TIMEOUT},
    mutual_tls::{HTTP_1, HTTP_2, MutualTls, MutualTlsFiles},
    tls::{self, Usage},
    watched_files::SettingFile,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_stream::StreamExt;

use self::authority::{Authority, FUTURE, Files, GOOD, PAST};

/// How long a test waits for what must happen, on a machine that may be busy.
const DEADLINE: Duration = Duration::from_secs(30);

/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A listener, and what it accepts.
struct Listener {
    address: SocketAddr,
    accepted: mpsc::Receiver<Accepted>,
    _task: JoinSet<()>,
}

impl Listener {
    async fn start(tls: MutualTls) -> Self {
        Self::start_with(Some(tls), NonZeroUsize::MAX).await
    }

    async fn start_with(tls: Option<MutualTls>, connections_max: NonZeroUsize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, accepted) = mpsc::channel(1);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut incoming = Incoming::new(listener, "test", tls, connections_max);
            while let Some(accepted) = incoming.next().await {
                sender.send(accepted.unwrap()).await.unwrap();
            }
        });
        Self { address, accepted, _task: task }
    }

    async fn accept(&mut self) -> Accepted {
        timeout(DEADLINE, self.accepted.recv()).await.unwrap().unwrap()
    }

    async fn connect(&self, tls: &MutualTls, host: &str) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        tls.connect(host, stream, HTTP_2).await
    }
}

/// Whether the other side goes on with a connection: in TLS 1.3 a client learns that it was refused when it reads.
async fn is_refused(connected: io::Result<TlsStream<TcpStream>>) -> bool {
    let Ok(mut stream) = connected else { return true };
    timeout(DEADLINE, stream.read_u8()).await.unwrap().is_err()
}

#[tokio::test]
async fn only_certificates_of_our_authority_that_are_good_now_let_in() {
    let (ours, others) = (Authority::new(), Authority::new());
    let server = Files::new(&ours.pem, &ours.certify(&["server.example"], GOOD));
    let mut listener = Listener::start(server.open()).await;
    let client = |own: &(String, String)| Files::new(&ours.pem, own);

    for (what, own) in [
        ("of another authority", others.certify(&["client.example"], GOOD)),
        ("expired", ours.certify(&["client.example"], PAST)),
        ("not good yet", ours.certify(&["client.example"], FUTURE)),
    ] {
        let files = client(&own);
        let connected = listener.connect(&files.open(), "server.example").await;
        assert!(is_refused(connected).await, "{what}");
    }
    assert!(is_refused(without_certificate(&ours, listener.address, &[HTTP_2]).await).await);
    let mut plain = TcpStream::connect(listener.address).await.unwrap();
    plain.write_all(PREFACE).await.unwrap();
    let mut answer = Vec::new();
    timeout(DEADLINE, plain.read_to_end(&mut answer)).await.unwrap().ok();
    assert!(!answer.starts_with(b"\0\0"), "plaintext is no HTTP/2 here: {answer:?}");

    let files = client(&ours.certify(&["Client.example", "*.wild.example", "b.example"], GOOD));
    let mut stream = listener.connect(&files.open(), "server.example").await.unwrap();
    let mut accepted = listener.accept().await;

    assert_eq!(accepted.caller().names[..], ["client.example", "b.example"]);
    assert_eq!(accepted.caller().address, stream.get_ref().0.local_addr().unwrap());
    stream.write_all(b"ping").await.unwrap();
    let mut heard = [0; 4];
    timeout(DEADLINE, accepted.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(&heard, b"ping");
}

async fn without_certificate(
    authority: &Authority,
    address: SocketAddr,
    protocols: &[&[u8]],
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in tls::certificates(authority.pem.as_bytes()).unwrap() {
        roots.add(certificate).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("server.example").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn a_caller_speaks_with_nobody_but_the_host_of_the_address() {
    let (ours, others) = (Authority::new(), Authority::new());
    let own = ours.certify(&["client.example"], GOOD);
    let files = Files::new(&ours.pem, &own);
    let client = files.open();
    for (what, authority, names, years) in [
        ("another host", &ours, &["other.example"][..], GOOD),
        ("of another authority", &others, &["server.example"], GOOD),
        ("expired", &ours, &["server.example"], PAST),
        ("no name at all", &ours, &[], GOOD),
    ] {
        let server = Files::new(&ours.pem, &authority.certify(names, years));
        let listener = Listener::start(server.open()).await;
        assert!(listener.connect(&client, "server.example").await.is_err(), "{what}");
    }

    let server =
        Files::new(&ours.pem, &ours.certify(&["server.example", "127.0.0.1", "::1"], GOOD));
    let mut listener = Listener::start(server.open()).await;
    for host in ["server.example", "127.0.0.1", "[::1]"] {
        listener.connect(&client, host).await.unwrap();
        listener.accept().await;
    }
    let stream = TcpStream::connect(listener.address).await.unwrap();
    let other_protocol = client.connect("server.example", stream, HTTP_1).await;
    assert!(other_protocol.is_err(), "a listener speaks what it is for");
}

#[tokio::test]
async fn a_certificate_that_names_usages_is_good_for_those_only() {
    let ours = Authority::new();
    let of = |name: &str, usage: ExtendedKeyUsagePurpose| {
        Files::new(&ours.pem, &ours.certify_for(&[name], GOOD, &[usage]))
    };
    let [for_servers, for_clients] =
        [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let server = of("server.example", for_servers.clone());
    let client = of("client.example", for_clients.clone());
    let mut listener = Listener::start(server.open_for(&[Usage::Server]).unwrap()).await;
    let good = client.open_for(&[Usage::Client]).unwrap();
    listener.connect(&good, "server.example").await.unwrap();
    listener.accept().await;

    let wrong_client = of("client.example", for_servers);
    let wrong_server = of("server.example", for_clients);
    for (files, usage) in [(&wrong_client, Usage::Client), (&wrong_server, Usage::Server)] {
        let usages: &[_] = if usage == Usage::Client { &[Usage::Client] } else { &[Usage::Server] };
        let error = files.open_for(usages).unwrap_err();
        assert!(format!("{:#}", anyhow::Error::new(error)).contains("CERT"), "{usage:?}");
    }
    // Others do not take them either.
    let connected = listener.connect(&wrong_client.open(), "server.example").await;
    assert!(is_refused(connected).await);
    let wrong = Listener::start(wrong_server.open()).await;
    assert!(wrong.connect(&good, "server.example").await.is_err());
}

/// Connections from an address that say nothing.
async fn silent(to: SocketAddr, from: [u8; 4], count: usize) -> Vec<TcpStream> {
    let mut silent = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        silent.push(socket.connect(to).await.unwrap());
    }
    silent
}

#[tokio::test]
async fn however_many_handshakes_one_address_begins_others_get_in() {
    let ours = Authority::new();
    let server = Files::new(&ours.pem, &ours.certify(&["server.example"], GOOD));
    let client = Files::new(&ours.pem, &ours.certify(&["client.example"], GOOD)).open();
    let mut listener = Listener::start(server.open()).await;

    let begin = Instant::now();
    let silent = silent(listener.address, [127, 0, 0, 2], 200).await;
    let _one = listener.connect(&client, "server.example").await.unwrap();
    listener.accept().await;

    let waited = begin.elapsed();
    assert!(waited < Duration::from_secs(4), "the silent are in the way: {waited:?}");
    let mut cut = 0;
    for stream in &silent {
        cut += usize::from(matches!(stream.try_read(&mut [0; 1]), Ok(0)));
    }
    assert_eq!(cut, 200 - 64, "as many as may be under way of one address are");
}

#[tokio::test]
async fn handshakes_that_do_not_end_are_bounded_in_number_and_time() {
    const HANDSHAKES_MAX: usize = 128;
    let ours = Authority::new();
    let server = Files::new(&ours.pem, &ours.certify(&["server.example"], GOOD));
    let files = Files::new(&ours.pem, &ours.certify(&["client.example"], GOOD));
    let client = files.open();
    let mut listener = Listener::start(server.open()).await;
    let to = listener.address;

    let begin = Instant::now();
    let mut first = silent(to, [127, 0, 0, 2], HANDSHAKES_MAX / 2).await;
    first.extend(silent(to, [127, 0, 0, 3], HANDSHAKES_MAX / 2 - 1).await);
    let all_silent = Instant::now();
    // Held: the listener's room for what is accepted is small.
    let _one = listener.connect(&client, "server.example").await.unwrap();
    let at_limit = all_silent.elapsed();
    first.extend(silent(to, [127, 0, 0, 3], 1).await);
    // One more than may be under way waits until those before it are given up.
    let _other = timeout(DEADLINE, listener.connect(&client, "server.example")).await.unwrap();
    let beyond = begin.elapsed();

    listener.accept().await;
    listener.accept().await;
    assert!(at_limit < Duration::from_secs(4), "nobody waits for the silent: {at_limit:?}");
    assert!(beyond > Duration::from_secs(4), "the bound is not there: {beyond:?}");
    for mut stream in first {
        let ended = timeout(DEADLINE, stream.read(&mut [0; 64])).await.unwrap();
        assert!(!matches!(ended, Ok(count) if count > 0), "a silent caller is told nothing");
    }
}

#[tokio::test]
async fn so_many_connections_are_open_and_half_of_them_of_one_address() {
    let mut listener = Listener::start_with(None, NonZeroUsize::new(4).unwrap()).await;
    let to = listener.address;
    let is_closed = async |mut stream: TcpStream| {
        timeout(DEADLINE, stream.read(&mut [0; 1])).await.unwrap().unwrap_or(0) == 0
    };

    let _one = silent(to, [127, 0, 0, 2], 2).await;
    let first = [listener.accept().await, listener.accept().await];
    assert!(is_closed(silent(to, [127, 0, 0, 2], 1).await.remove(0)).await);
    let _other = silent(to, [127, 0, 0, 3], 2).await;
    let _second = [listener.accept().await, listener.accept().await];
    assert!(is_closed(silent(to, [127, 0, 0, 4], 1).await.remove(0)).await);

    drop(first);
    let _third = silent(to, [127, 0, 0, 4], 1).await;
    assert_eq!(listener.accept().await.caller().address.ip(), IpAddr::from([127, 0, 0, 4]));
}

#[tokio::test]
async fn whoever_does_not_begin_in_time_is_cut() {
    let ours = Authority::new();
    let server = Files::new(&ours.pem, &ours.certify(&["server.example"], GOOD));
    let client = Files::new(&ours.pem, &ours.certify(&["client.example"], GOOD)).open();
    let mut listener = Listener::start(server.open()).await;

    for (said, goes_on) in [(0, false), (23, false), (24, true)] {
        let mut stream = listener.connect(&client, "server.example").await.unwrap();
        let mut accepted = listener.accept().await;
        stream.write_all(&PREFACE[..said]).await.unwrap();
        let begin = Instant::now();
        // Its time is over, and nothing more comes.
        let read = timeout(OPENING_TIMEOUT + Duration::from_secs(1), async {
            accepted.read_exact(&mut [0; 25]).await.unwrap_err().kind()
        });
        let expected = if goes_on { None } else { Some(io::ErrorKind::TimedOut) };
        assert_eq!(read.await.ok(), expected, "after {said} bytes");
        assert!(begin.elapsed() > OPENING_TIMEOUT / 2, "it has some time");
    }
}

#[tokio::test]
async fn replaced_files_count_for_new_connections_and_live_ones_go_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let server_files = Files::new(&old.pem, &old.certify(&["server.example"], GOOD));
    let mut server = server_files.open();
    let mut listener = Listener::start(server.clone()).await;
    let client_files = Files::new(&old.pem, &old.certify(&["client.example"], GOOD));
    let mut client = client_files.open();
    let old_client = Files::new(&old.pem, &old.certify(&["client.example"], GOOD));
    let mut live = listener.connect(&client, "server.example").await.unwrap();
    let mut accepted = listener.accept().await;
    live.write_all(PREFACE).await.unwrap();
    timeout(DEADLINE, accepted.read_exact(&mut [0; PREFACE.len()])).await.unwrap().unwrap();

    // As an authority is replaced: first it is trusted beside the old one, then it certifies, then the old one goes.
    let both = format!("{}{}", old.pem, new.pem);
    for (files, tls) in [(&server_files, &mut server), (&client_files, &mut client)] {
        files.write("ca", &both);
        timeout(DEADLINE, tls.changed()).await.unwrap();
    }
    for (files, tls, name) in [
        (&server_files, &mut server, "server.example"),
        (&client_files, &mut client, "client.example"),
    ] {
        let (certificate, key) = new.certify(&[name], GOOD);
        files.write("certificate", &certificate);
        files.write("key", &key);
        timeout(DEADLINE, tls.changed()).await.unwrap();
    }
    listener.connect(&client, "server.example").await.unwrap();
    listener.accept().await;
    for (files, tls) in [(&server_files, &mut server), (&client_files, &mut client)] {
        files.write("ca", &new.pem);
        timeout(DEADLINE, tls.changed()).await.unwrap();
    }

    listener.connect(&client, "server.example").await.unwrap();
    listener.accept().await;
    let of_old = Files::new(&both, &old.certify(&["client.example"], GOOD));
    assert!(is_refused(listener.connect(&of_old.open(), "server.example").await).await);
    assert!(listener.connect(&old_client.open(), "server.example").await.is_err());
    live.write_all(b"still here").await.unwrap();
    let mut heard = [0; 10];
    timeout(DEADLINE, accepted.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(&heard, b"still here");
}

#[tokio::test]
async fn files_that_are_of_no_use_are_named_and_not_quoted() {
    let ours = Authority::new();
    let own = ours.certify(&["server.example"], GOOD);
    let other = ours.certify(&["server.example"], GOOD);
    let told = |ca: &str, certificate: &str, key: &str| {
        let files = Files::new(ca, &(certificate.to_owned(), key.to_owned()));
        let file = |setting, name: &str| SettingFile::new(setting, files.0.path().join(name));
        let files = MutualTlsFiles {
            certificate: file("CERT", "certificate"),
            key: file("KEY", "key"),
            authorities: file("CA", "ca"),
        };
        format!(
            "{:#}",
            anyhow::Error::new(MutualTls::open("test", files, &[HTTP_2], &[]).unwrap_err())
        )
    };
    let no_authority = "CA names a file with no certificates of authorities in PEM";

    for (ca, certificate, key, expected) in [
        ("", &*own.0, &*own.1, no_authority),
        (&*own.1, &own.0, &own.1, no_authority),
        (&ours.pem, &own.0, &other.1, "CERT and KEY cannot be used together"),
        (&ours.pem, &own.0, "", "KEY names a file with no unencrypted private key in PEM"),
        (&ours.pem, "", &own.1, "CERT names a file with no certificates in PEM"),
    ] {
        let told = told(ca, certificate, key);
        assert!(told.starts_with(expected), "{told}");
        assert!(!told.contains(own.1.lines().nth(1).unwrap()), "{told}");
    }
}

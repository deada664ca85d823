//! Starts the whole system as real processes, and breaks it on request.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
};

use tempfile::TempDir;

use super::{
    authority::{Authority, CertificateFiles},
    eventually::eventually,
    http::get,
    json_client::JsonClient,
    loopback::{own_address, own_host},
    otlp_collector::OtlpCollector,
    process::{Process, Program},
    socket_io_client::SocketIoClient,
    token_mint::{AUDIENCE, ISSUER, TokenMint},
};

/// How the services are spread over processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    ThreeProcesses,
    OneProcess,
}

/// Settings of a [`Cluster`] that is to be started.
#[derive(Debug)]
pub(crate) struct ClusterBuilder {
    layout: Layout,
    secret: Option<String>,
    shared: Vec<String>,
    edge: Vec<String>,
    chat: Vec<String>,
    auth: Vec<String>,
    other_routes: Vec<String>,
    starts_chat: bool,
    data: Option<TempDir>,
    authority: Option<Authority>,
}

/// One service as a process, and what starts it again.
#[derive(Debug)]
struct Server {
    program: Program,
    settings: Vec<String>,
    environment: Vec<(&'static str, String)>,
    process: Option<Process>,
    /// Logs of the processes before this one.
    earlier_log: Vec<String>,
}

/// A running system. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) mint: TokenMint,
    /// Where clients connect.
    pub(crate) clients: SocketAddr,
    /// Health, readiness and metrics of the edge.
    pub(crate) ops: SocketAddr,
    /// `ChatService` and `EdgeLink`.
    pub(crate) chat: SocketAddr,
    /// `AuthService`.
    pub(crate) auth: SocketAddr,
    servers: Vec<Server>,
    /// Where the rooms are, if they are on disk.
    _data: Option<TempDir>,
    /// Who certifies the services, and their certificates, if they have some: of auth, chat and edge.
    pub(crate) certificates: Option<(Authority, [CertificateFiles; 3])>,
}

/// Lets everybody do everything in rooms.
const OPEN_ROOMS: &str = "--chat-open-rooms";

impl Cluster {
    /// Starts three processes with one shard and default settings.
    pub(crate) async fn start() -> Self {
        Self::builder().start().await
    }

    pub(crate) fn builder() -> ClusterBuilder {
        ClusterBuilder {
            layout: Layout::ThreeProcesses,
            secret: Some("only-for-tests-0123456789-abcdefghij".to_owned()),
            shared: Vec::new(),
            edge: vec!["--edge-shards=1".to_owned()],
            // The tokens of the mint say nothing of rooms.
            chat: vec![OPEN_ROOMS.to_owned(), "--chat-grpc-reflection".to_owned()],
            auth: vec![
                format!("--auth-issuer={ISSUER}"),
                format!("--auth-audience={AUDIENCE}"),
                "--auth-grpc-reflection".to_owned(),
            ],
            other_routes: Vec::new(),
            starts_chat: true,
            data: None,
            authority: None,
        }
    }

    /// Enters `/chat` over Socket.IO with a good token.
    pub(crate) async fn socket_io(&self, subject: &str) -> SocketIoClient {
        self.socket_io_in("/chat", subject).await
    }

    /// Enters a namespace over Socket.IO with a good token.
    pub(crate) async fn socket_io_in(&self, namespace: &str, subject: &str) -> SocketIoClient {
        let mut client = SocketIoClient::open(self.clients).await;
        let auth = serde_json::json!({"token": self.mint.token(subject)});
        client.connect(namespace, &auth).await.expect("a good token is let in");
        client
    }

    /// Enters over the plain JSON WebSocket with a good token.
    pub(crate) async fn json(&self, subject: &str) -> JsonClient {
        JsonClient::enter(self.clients, &self.mint.token(subject)).await
    }

    /// Ends the process of a service with SIGKILL.
    pub(crate) fn kill(&mut self, program: Program) {
        let server = self.server_mut(program);
        if let Some(mut process) = server.process.take() {
            process.kill();
            server.earlier_log.extend(process.log());
        }
    }

    /// Starts a service, on the address that it had or was promised.
    pub(crate) async fn start_again(&mut self, program: Program) {
        self.server_mut(program).start().await;
    }

    /// Waits until the edge says that it is ready.
    pub(crate) async fn ready(&self) {
        eventually("the edge is ready", async || {
            (get(self.ops, "/readyz").await.status == 200).then_some(())
        })
        .await;
    }

    /// Returns the running process of a service.
    pub(crate) fn process(&mut self, program: Program) -> &mut Process {
        self.server_mut(program).process.as_mut().expect("it is running")
    }

    /// Returns everything that any process has written so far.
    pub(crate) fn log(&self) -> String {
        let lines = self.servers.iter().flat_map(|server| {
            let current = server.process.iter().flat_map(Process::log);
            server.earlier_log.iter().cloned().chain(current)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Returns the value of a metric of the edge, summed over the lines that have all `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let text = get(self.ops, "/metrics").await.body;
        let values: Vec<f64> = text
            .lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        if values.is_empty() { None } else { Some(values.iter().sum()) }
    }

    fn server_mut(&mut self, program: Program) -> &mut Server {
        self.servers
            .iter_mut()
            .find(|server| server.program == program)
            .expect("a process of its own")
    }
}

impl ClusterBuilder {
    /// Runs all services in the process of the all-in-one.
    pub(crate) fn in_one_process(mut self) -> Self {
        self.layout = Layout::OneProcess;
        self
    }

    /// Leaves the chat service out until [`Cluster::start_again`].
    pub(crate) fn without_chat(mut self) -> Self {
        self.starts_chat = false;
        self
    }

    /// Leaves the auth service without a shared secret.
    pub(crate) fn without_secret(mut self) -> Self {
        self.secret = None;
        self
    }

    /// Adds a setting of the edge gateway. It replaces one that was given before.
    pub(crate) fn edge(mut self, flag: &str, value: impl Display) -> Self {
        let setting = format!("{flag}={value}");
        self.edge.retain(|earlier| !earlier.starts_with(&format!("{flag}=")));
        self.edge.push(setting);
        self
    }

    /// Adds a setting of the auth service.
    pub(crate) fn auth(mut self, setting: impl Into<String>) -> Self {
        self.auth.push(setting.into());
        self
    }

    /// Adds a setting of the chat service.
    pub(crate) fn chat(mut self, setting: impl Into<String>) -> Self {
        self.chat.push(setting.into());
        self
    }

    /// Lets users do what their tokens say, and nothing else.
    pub(crate) fn with_closed_rooms(mut self) -> Self {
        self.chat.retain(|setting| setting != OPEN_ROOMS);
        self
    }

    /// Has the services keep their contracts to themselves.
    pub(crate) fn without_reflection(mut self) -> Self {
        for settings in [&mut self.auth, &mut self.chat] {
            settings.retain(|setting| !setting.ends_with("-grpc-reflection"));
        }
        self
    }

    /// Has the services show each other certificates.
    pub(crate) fn mutual_tls(mut self) -> Self {
        self.authority = Some(Authority::new());
        self
    }

    /// Keeps the rooms on disk.
    pub(crate) fn on_disk(mut self) -> Self {
        let data = tempfile::tempdir().unwrap();
        self.chat.push(format!("--chat-data-dir={}", data.path().display()));
        self.data = Some(data);
        self
    }

    /// Adds a setting of all services.
    pub(crate) fn all(mut self, setting: impl Into<String>) -> Self {
        self.shared.push(setting.into());
        self
    }

    /// Sends a namespace to a business service of the test.
    pub(crate) fn route(mut self, namespace: &str, address: SocketAddr) -> Self {
        self.other_routes.push(format!("--edge-route={namespace}=http://{address}"));
        self
    }

    /// Sends the spans of all services to `collector`.
    pub(crate) fn tracing_to(self, collector: &OtlpCollector) -> Self {
        self.all(format!("--otlp-endpoint={}", collector.endpoint()))
    }

    /// Starts the processes and waits until the edge is ready, if it can be.
    pub(crate) async fn start(self) -> Cluster {
        match self.layout {
            Layout::ThreeProcesses => self.start_three().await,
            Layout::OneProcess => self.start_one().await,
        }
    }

    async fn start_three(mut self) -> Cluster {
        let hosts = [own_host(), own_host()];
        let certificates = self.authority.take().map(|authority| {
            let [auth, chat] = hosts.map(|host| host.to_string());
            let files = [
                authority.certify(&["auth.sockeye.internal", &auth]),
                authority.certify(&["chat.sockeye.internal", &chat]),
                authority.certify(&["edge.sockeye.internal"]),
            ];
            self.auth.extend(files[0].flags("auth"));
            self.chat.extend(files[1].flags("chat"));
            self.edge.extend(files[2].flags("edge"));
            (authority, files)
        });
        let scheme = if certificates.is_some() { "https" } else { "http" };
        let mut auth = self.auth_server(hosts[0]);
        auth.start().await;
        let auth_address = auth.address("auth-service", "grpc").await;
        auth.stay_at("--auth-listen", auth_address);

        let mut chat = Server::new(Program::ChatService, [&self.shared[..], &self.chat].concat());
        let chat_address = if self.starts_chat {
            chat.settings.push(format!("--chat-listen={}:0", hosts[1]));
            chat.start().await;
            chat.address("chat-service", "grpc").await
        } else {
            own_address()
        };
        chat.stay_at("--chat-listen", chat_address);

        let mut edge = Server::new(
            Program::EdgeGateway,
            [&self.shared[..], &self.edge, &self.other_routes].concat(),
        );
        edge.settings.push(format!("--edge-auth-url={scheme}://{auth_address}"));
        edge.settings.extend(
            ["/", "/chat"].map(|name| format!("--edge-route={name}={scheme}://{chat_address}")),
        );
        let host = own_host();
        edge.settings
            .extend(["--edge-listen", "--edge-ops-listen"].map(|flag| format!("{flag}={host}:0")));
        edge.start().await;
        let clients = edge.address("edge-gateway", "clients").await;
        let ops = edge.address("edge-gateway", "ops").await;
        edge.stay_at("--edge-listen", clients);
        edge.stay_at("--edge-ops-listen", ops);

        let mint = self.mint();
        let servers = vec![edge, chat, auth];
        let cluster = Cluster {
            mint,
            clients,
            ops,
            chat: chat_address,
            auth: auth_address,
            servers,
            _data: self.data,
            certificates,
        };
        if self.starts_chat {
            cluster.ready().await;
        }
        cluster
    }

    async fn start_one(self) -> Cluster {
        let mut server = self.auth_server(own_host());
        server.program = Program::Sockeye;
        server.settings.extend([&self.edge[..], &self.chat, &self.other_routes].concat());
        let host = own_host();
        for flag in ["--edge-listen", "--edge-ops-listen", "--chat-listen"] {
            server.settings.push(format!("{flag}={host}:0"));
        }
        server.start().await;
        let clients = server.address("edge-gateway", "clients").await;
        let ops = server.address("edge-gateway", "ops").await;
        let chat = server.address("chat-service", "grpc").await;
        let auth = server.address("auth-service", "grpc").await;

        let mint = self.mint();
        let (servers, _data) = (vec![server], self.data);
        let cluster =
            Cluster { mint, clients, ops, chat, auth, servers, _data, certificates: None };
        cluster.ready().await;
        cluster
    }

    fn auth_server(&self, host: IpAddr) -> Server {
        let mut server = Server::new(Program::AuthService, [&self.shared[..], &self.auth].concat());
        server.settings.push(format!("--auth-listen={host}:0"));
        server.environment.extend(self.secret.clone().map(|secret| ("AUTH_HS256_SECRET", secret)));
        server
    }

    fn mint(&self) -> TokenMint {
        TokenMint::new(
            self.secret.as_deref().unwrap_or("a secret that the auth service does not have"),
        )
    }
}

impl Server {
    fn new(program: Program, settings: Vec<String>) -> Self {
        Self { program, settings, environment: Vec::new(), process: None, earlier_log: Vec::new() }
    }

    async fn start(&mut self) {
        let process =
            self.process.insert(Process::start(self.program, &self.settings, &self.environment));
        let (service, listener) = match self.program {
            Program::Sockeye | Program::EdgeGateway => ("edge-gateway", "clients"),
            Program::ChatService => ("chat-service", "grpc"),
            Program::AuthService => ("auth-service", "grpc"),
        };
        process.address(service, listener).await;
    }

    async fn address(&mut self, service: &str, listener: &str) -> SocketAddr {
        self.process.as_mut().expect("it is running").address(service, listener).await
    }

    /// Makes the next process listen where this one does.
    fn stay_at(&mut self, flag: &str, address: SocketAddr) {
        self.settings.retain(|setting| !setting.starts_with(&format!("{flag}=")));
        self.settings.push(format!("{flag}={address}"));
    }
}

//! The services, each on a host of its own: real ones on simulated streams, save the auth service, which is a few lines.

use std::{cell::Cell, io, pin::Pin, rc::Rc, sync::Arc, time::Duration};

use clap::Parser;
use edge_gateway::{BoxedStream, EdgeGateway, SimulatedNetwork};
use http::Uri;
use proto::auth::v1::{
    AuthenticateEachRequest, AuthenticateEachResponse, AuthenticateRequest, AuthenticateResponse,
    Identity, IssueTokenRequest, IssueTokenResponse, Refusal, TokenAnswer, TokenQuestion,
    WatchRevocationsRequest, WatchRevocationsResponse,
    auth_service_server::{AuthService, AuthServiceServer},
    authenticate_response::Outcome,
};
use service_kit::{clock, shutdown::Shutdown};
use tokio::{
    sync::mpsc,
    task::{self, JoinSet},
    time::timeout,
};
use tokio_stream::{Pending, Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};
use turmoil::net::TcpListener;

use crate::{
    determinism,
    mutation::Mutation,
    network::{Wire, carry, socket_pair},
};

/// How far a host's wall clock is off at present, in milliseconds.
pub(crate) type Skew = Rc<Cell<i64>>;

/// How often a host looks whether its clock was moved.
const SKEW_INTERVAL: Duration = Duration::from_millis(50);

/// How many connections may wait to be accepted.
const BACKLOG: usize = 256;

/// How long connections last where they end for nothing.
const HANGUP_AFTER: Duration = Duration::from_secs(4);

#[derive(Parser)]
struct ChatArgs {
    #[command(flatten)]
    config: chat_service::Config,
}

#[derive(Parser)]
struct EdgeArgs {
    #[command(flatten)]
    config: edge_gateway::Config,
}

/// Runs the chat service.
pub(crate) async fn chat(args: Vec<String>, skew: Skew) -> turmoil::Result {
    let first = ["chat", "--chat-workers=2", "--chat-open-rooms"].map(str::to_owned);
    let ChatArgs { config } = ChatArgs::try_parse_from(first.into_iter().chain(args))?;
    let (_trigger, shutdown) = Shutdown::new();
    let _clock = follow(skew);
    let connections = accept(50052).await?.map(io::Result::Ok);
    chat_service::ChatService::run_simulated(config, connections, shutdown).await??;
    Ok(())
}

/// Runs an edge with one shard.
pub(crate) async fn edge(skew: Skew, mutation: Option<Mutation>) -> turmoil::Result {
    let args = [
        "edge",
        "--edge-auth-url=http://auth:50051",
        "--edge-route=/chat=http://chat:50052",
        "--edge-ping-interval=2s",
        "--edge-ping-timeout=2s",
        "--edge-event-timeout=3s",
        "--edge-connect-timeout=5s",
    ];
    let EdgeArgs { config } = EdgeArgs::try_parse_from(args)?;
    let (_trigger, shutdown) = Shutdown::new();
    let _clock = follow(skew);
    let (handed, clients) = mpsc::channel(BACKLOG);
    let listener = TcpListener::bind(("0.0.0.0", 3000)).await?;
    let mut carriers = JoinSet::new();
    carriers.spawn_local(async move {
        let mut carried = JoinSet::new();
        while let Ok((stream, peer)) = listener.accept().await {
            let Ok((near, far)) = socket_pair() else { return };
            if handed.send((far, peer.ip())).await.is_err() {
                return;
            }
            let lasts =
                if mutation == Some(Mutation::Hangup) { HANGUP_AFTER } else { Duration::MAX };
            // Dropped where it has lasted too long, and both ends with it.
            carried.spawn_local(timeout(lasts, carry(Wire::new(stream), near)));
        }
    });
    let dial = |url: Uri| {
        Box::pin(async move { Wire::dial(url).await.map(|wire| Box::new(wire) as BoxedStream) })
            as Pin<Box<dyn Future<Output = io::Result<BoxedStream>> + Send>>
    };
    let network = SimulatedNetwork { clients: vec![clients], dial: Arc::new(dial) };
    EdgeGateway::run_simulated(config, network, shutdown).await?;
    Ok(())
}

/// Runs an auth service for which each token is the name of a user and the end of the token.
pub(crate) async fn auth(skew: Skew, mutation: Option<Mutation>) -> turmoil::Result {
    let _clock = follow(skew);
    let never_expire = mutation == Some(Mutation::Immortal);
    let connections = accept(50051).await?.map(io::Result::Ok);
    let server =
        Server::builder().add_service(AuthServiceServer::new(TokensAreNames { never_expire }));
    server.serve_with_incoming(connections).await?;
    Ok(())
}

/// Keeps the wall clock of this host as the simulation wants it.
fn follow(skew: Skew) -> JoinSet<()> {
    let mut task = JoinSet::new();
    determinism::set_skew(skew.get());
    task.spawn_local(async move {
        loop {
            tokio::time::sleep(SKEW_INTERVAL).await;
            determinism::set_skew(skew.get());
        }
    });
    task
}

async fn accept(port: u16) -> io::Result<ReceiverStream<Wire>> {
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    let (sender, receiver) = mpsc::channel(BACKLOG);
    // Ends with the host, or with the first that nobody takes.
    task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if sender.send(Wire::new(stream)).await.is_err() {
                return;
            }
        }
    });
    Ok(ReceiverStream::new(receiver))
}

#[derive(Debug, Clone, Copy)]
struct TokensAreNames {
    never_expire: bool,
}

type AnswerStream = Pin<Box<dyn Stream<Item = Result<AuthenticateEachResponse, Status>> + Send>>;

impl TokensAreNames {
    fn answer(self, token: &str) -> AuthenticateResponse {
        let parts = token.split_once('.');
        let parts = parts.and_then(|(name, expires)| Some((name, expires.parse::<u64>().ok()?)));
        let outcome = match parts.filter(|(_, expires_ms)| *expires_ms > clock::unix_ms()) {
            Some((name, expires_ms)) => Outcome::Identity(Identity {
                profile: format!(r#"{{"id":"{name}"}}"#).into_bytes().into(),
                subject: name.to_owned(),
                issuer: "simulation".to_owned(),
                expires_at_unix_ms: if self.never_expire { u64::MAX / 2 } else { expires_ms },
                ..Identity::default()
            }),
            None => Outcome::Refusal(Refusal::default()),
        };
        AuthenticateResponse { outcome: Some(outcome), ..AuthenticateResponse::default() }
    }
}

#[tonic::async_trait]
impl AuthService for TokensAreNames {
    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        Ok(Response::new(self.answer(&request.into_inner().token)))
    }

    type AuthenticateEachStream = AnswerStream;

    async fn authenticate_each(
        &self,
        request: Request<Streaming<AuthenticateEachRequest>>,
    ) -> Result<Response<Self::AuthenticateEachStream>, Status> {
        let auth = *self;
        let answer = move |TokenQuestion { number, token, .. }: TokenQuestion| TokenAnswer {
            number,
            response: Some(auth.answer(&token)),
        };
        let messages = request.into_inner().map(move |message| {
            let answers = message?.questions.into_iter().map(answer).collect();
            Ok(AuthenticateEachResponse { answers })
        });
        Ok(Response::new(Box::pin(messages)))
    }

    type WatchRevocationsStream = Pending<Result<WatchRevocationsResponse, Status>>;

    /// Nothing is ever taken back.
    async fn watch_revocations(
        &self,
        _: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        Ok(Response::new(tokio_stream::pending()))
    }

    async fn issue_token(
        &self,
        _: Request<IssueTokenRequest>,
    ) -> Result<Response<IssueTokenResponse>, Status> {
        Err(Status::unimplemented("tokens are names"))
    }
}

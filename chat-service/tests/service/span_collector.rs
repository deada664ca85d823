//! Takes in what the service exports, as a collector does.

use std::net::SocketAddr;

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use crate::edge::within_deadline;

pub(crate) struct SpanCollector {
    pub(crate) address: SocketAddr,
    spans: mpsc::Receiver<Span>,
    _server: JoinSet<Result<(), tonic::transport::Error>>,
}

struct Exports(mpsc::Sender<Span>);

#[tonic::async_trait]
impl TraceService for Exports {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        for span in scopes.flat_map(|scope| scope.spans) {
            self.0.send(span).await.unwrap();
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl SpanCollector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, spans) = mpsc::channel(256);
        let mut server = JoinSet::new();
        server.spawn(
            Server::builder()
                .add_service(TraceServiceServer::new(Exports(sender)))
                .serve_with_incoming(TcpIncoming::from(listener)),
        );
        Self { address, spans, _server: server }
    }

    pub(crate) async fn next(&mut self) -> Span {
        within_deadline(self.spans.recv()).await.unwrap()
    }
}

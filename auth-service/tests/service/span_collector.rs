//! Receives spans as a collector does.

use std::net::SocketAddr;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

const BATCH_COUNT_MAX: usize = 16;

pub(crate) struct SpanCollector {
    pub(crate) address: SocketAddr,
    received: mpsc::Receiver<ExportTraceServiceRequest>,
    _server: JoinSet<Result<(), tonic::transport::Error>>,
}

struct Receiver(mpsc::Sender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send(request.into_inner()).await.unwrap();
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl SpanCollector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, received) = mpsc::channel(BATCH_COUNT_MAX);
        let mut server = JoinSet::new();
        server.spawn(
            Server::builder()
                .add_service(TraceServiceServer::new(Receiver(sender)))
                .serve_with_incoming(TcpIncoming::from(listener)),
        );
        Self { address, received, _server: server }
    }

    /// All that has come, in however many batches. To be called when the exporter has been shut down: it waits for the answer
    /// to each.
    pub(crate) fn all(mut self) -> ExportTraceServiceRequest {
        let mut all = ExportTraceServiceRequest::default();
        while let Ok(batch) = self.received.try_recv() {
            all.resource_spans.extend(batch.resource_spans);
        }
        all
    }
}

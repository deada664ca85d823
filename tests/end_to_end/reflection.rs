//! Calls a service as `grpcurl` does: with nothing but its address, a method's name and JSON.

use std::net::SocketAddr;

use bytes::{Buf, BufMut};
use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions, prost::Message,
    prost_types::FileDescriptorProto,
};
use serde_json::{Value, json};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::support::{Cluster, within};

/// Sends and receives messages whose types are known only now.
#[derive(Debug, Clone)]
struct DynamicCodec {
    answer: MessageDescriptor,
}

impl Codec for DynamicCodec {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for DynamicCodec {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(
        &mut self,
        message: DynamicMessage,
        buffer: &mut EncodeBuf<'_>,
    ) -> Result<(), Status> {
        buffer.put_slice(&message.encode_to_vec());
        Ok(())
    }
}

impl Decoder for DynamicCodec {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let message = DynamicMessage::decode(self.answer.clone(), bytes);
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

async fn ask_reflection(channel: &Channel, question: MessageRequest) -> MessageResponse {
    let mut client = ServerReflectionClient::new(channel.clone());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut answers =
        client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap().message_response.unwrap()
}

async fn services(channel: &Channel) -> Vec<String> {
    let answer = ask_reflection(channel, MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("no list of services") };
    list.service.into_iter().map(|service| service.name).collect()
}

/// Fetches the file that defines `symbol`, and those it needs.
async fn describe(channel: &Channel, symbol: &str) -> DescriptorPool {
    let mut files: Vec<FileDescriptorProto> = Vec::new();
    let mut questions = vec![MessageRequest::FileContainingSymbol(symbol.to_owned())];
    while let Some(question) = questions.pop() {
        let MessageResponse::FileDescriptorResponse(answer) =
            ask_reflection(channel, question).await
        else {
            panic!("no descriptor of {symbol}");
        };
        for bytes in answer.file_descriptor_proto {
            let file = FileDescriptorProto::decode(&bytes[..]).unwrap();
            if files.iter().all(|known| known.name != file.name) {
                questions
                    .extend(file.dependency.iter().cloned().map(MessageRequest::FileByFilename));
                files.push(file);
            }
        }
    }
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_protos(files).unwrap();
    pool
}

/// Calls `method`, given as `package.Service/Method`, with a request in JSON.
pub(crate) async fn call(
    address: SocketAddr,
    method: &str,
    request: &str,
) -> Result<Value, Status> {
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    let channel = within("connect", endpoint.connect()).await.unwrap();
    let (service, name) = method.split_once('/').unwrap();
    let pool = describe(&channel, service).await;
    let service = pool.get_service_by_name(service).unwrap();
    let method_type = service.methods().find(|method| method.name() == name).unwrap();

    let mut deserializer = serde_json::Deserializer::from_str(request);
    let message = DynamicMessage::deserialize(method_type.input(), &mut deserializer).unwrap();
    deserializer.end().unwrap();
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let codec = DynamicCodec { answer: method_type.output() };
    let path = format!("/{method}").parse().unwrap();
    let answer = client.unary(Request::new(message), path, codec).await?.into_inner();
    let options = SerializeOptions::new().skip_default_fields(false);
    Ok(answer.serialize_with_options(serde_json::value::Serializer, &options).unwrap())
}

#[tokio::test]
async fn every_service_describes_itself() {
    let cluster = Cluster::start().await;

    for (address, expected) in [
        (cluster.auth, &["grpc.health.v1.Health", "sockeye.auth.v1.AuthService"][..]),
        (
            cluster.chat,
            &["grpc.health.v1.Health", "sockeye.chat.v1.ChatService", "sockeye.edge.v1.EdgeLink"],
        ),
    ] {
        let channel =
            Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let found = services(&channel).await;
        for name in expected {
            assert!(found.iter().any(|service| service == name), "{name} is not among {found:?}");
        }
        let health = call(address, "grpc.health.v1.Health/Check", "{}").await.unwrap();
        assert_eq!(health["status"], "SERVING");
    }
}

#[tokio::test]
async fn nothing_is_told_of_the_contracts_unless_that_is_set() {
    let cluster = Cluster::builder().without_reflection().start().await;

    for address in [cluster.auth, cluster.chat] {
        let channel =
            Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let question = MessageRequest::ListServices(String::new());
        let request =
            ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        let mut client = ServerReflectionClient::new(channel.clone());
        let refused = client.server_reflection_info(tokio_stream::once(request)).await;
        assert_eq!(refused.unwrap_err().code(), tonic::Code::Unimplemented);
        HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_call_by_reflection_publishes_into_a_room() {
    let cluster = Cluster::start().await;
    let mut alice = cluster.socket_io("alice").await;
    let mut bob = cluster.json("bob").await;
    alice.request("join", json!("lobby")).await;
    bob.request("join", json!("lobby")).await.unwrap();
    alice.event("presence").await;

    let request =
        json!({"room": "lobby", "data": r#"{"text":"from outside"}"#, "idempotencyKey": "once"})
            .to_string();
    let published =
        call(cluster.chat, "sockeye.chat.v1.ChatService/Publish", &request).await.unwrap();
    let again = call(cluster.chat, "sockeye.chat.v1.ChatService/Publish", &request).await.unwrap();

    assert_eq!(published, again, "an idempotency key makes a retry harmless");
    for message in [alice.event("message").await, bob.event("message").await] {
        assert_eq!(message["text"], "from outside");
        assert_eq!((&message["room"], &message["id"]), (&json!("lobby"), &published["id"]));
        assert_eq!(message["position"], published["position"]);
    }
    assert_eq!(alice.unread_events().await, [] as [&str; 0]);
}

#[tokio::test]
async fn publications_reach_a_user_and_everyone() {
    let cluster = Cluster::start().await;
    let mut alice = cluster.socket_io("alice").await;
    let mut bob = cluster.json("bob").await;

    let to_user = json!({"user": "bob", "event": "invoice", "data": r#"{"number":7}"#}).to_string();
    let to_all =
        json!({"everyone": true, "event": "notice", "data": r#"{"text":"hear ye"}"#}).to_string();
    call(cluster.chat, "sockeye.chat.v1.ChatService/Publish", &to_user).await.unwrap();
    call(cluster.chat, "sockeye.chat.v1.ChatService/Publish", &to_all).await.unwrap();

    assert_eq!(bob.event("invoice").await, json!({"number": 7}));
    assert_eq!(bob.event("notice").await, json!({"text": "hear ye"}));
    assert_eq!(alice.frame().await, r#"42/chat,["notice",{"text":"hear ye"}]"#, "and no invoice");
}

#[tokio::test]
async fn rooms_are_seen_from_outside() {
    let cluster = Cluster::start().await;
    let mut alice = cluster.socket_io("alice").await;
    alice.request("join", json!("lobby")).await;
    let sent = alice.request("message", json!({"room": "lobby", "text": "logged"})).await;

    let rooms = call(cluster.chat, "sockeye.chat.v1.ChatService/Rooms", "{}").await.unwrap();
    let presence =
        call(cluster.chat, "sockeye.chat.v1.ChatService/Presence", r#"{"room":"lobby"}"#)
            .await
            .unwrap();
    let history = call(cluster.chat, "sockeye.chat.v1.ChatService/History", r#"{"room":"lobby"}"#)
        .await
        .unwrap();

    let lobby = json!({"name": "lobby", "users": 1, "sockets": 1, "position": sent["position"]});
    assert_eq!(rooms["rooms"], json!([lobby]));
    assert_eq!(
        (&presence["count"], &presence["users"][0]["subject"]),
        (&json!(1), &json!("alice"))
    );
    assert_eq!(history["entries"][0]["position"], sent["position"]);
    let entry: Value =
        serde_json::from_str(history["entries"][0]["data"].as_str().unwrap()).unwrap();
    assert_eq!(entry["text"], "logged");
}

#[tokio::test]
async fn publications_that_make_no_sense_are_invalid() {
    let cluster = Cluster::start().await;

    for request in [
        json!({"data": "{}"}),
        json!({"room": "", "data": "{}"}),
        json!({"room": "lobby", "data": "[]"}),
        json!({"room": "lobby", "data": "{"}),
        json!({"room": "lobby", "data": ""}),
        json!({"room": "lobby", "data": "{}", "event": "connect"}),
        json!({"everyone": false, "data": "{}"}),
    ] {
        let refused =
            call(cluster.chat, "sockeye.chat.v1.ChatService/Publish", &request.to_string()).await;
        assert_eq!(refused.unwrap_err().code(), tonic::Code::InvalidArgument, "{request}");
    }
}

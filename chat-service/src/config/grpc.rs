//! Settings of gRPC: TLS between the services, and who may call.

service_kit::grpc_config!("chat", "CHAT");

//! Does with a `rust_socketio` client what it is told, and reports what it sees.

use std::{collections::HashMap, error::Error, io, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::FutureExt as _;
use rust_socketio::{
    Event, Payload, TransportType,
    asynchronous::{Client, ClientBuilder},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_ERROR: &str = "Received an ConnectError frame: ";

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::new()?;
    let mut clients = HashMap::new();
    for line in io::stdin().lines() {
        let command: Value = serde_json::from_str(&line?)?;
        let socket = text(&command, "socket");
        match text(&command, "do").as_str() {
            "connect" => {
                let client = runtime.block_on(connect(&command, &socket))?;
                clients.insert(socket, client);
            }
            "emit" => runtime
                .block_on(clients[&socket].emit(text(&command, "event"), payload(&command)))?,
            "ask" => runtime.block_on(ask(&clients[&socket], &command, socket))?,
            // It may have been disconnected.
            "close" => drop(runtime.block_on(clients[&socket].disconnect())),
            unknown => return Err(format!("unknown command: {unknown}").into()),
        }
    }
    Ok(())
}

async fn connect(command: &Value, socket: &str) -> Result<Client, rust_socketio::Error> {
    let transports: Vec<_> =
        command["transports"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let transport = match transports[..] {
        ["websocket"] => TransportType::Websocket,
        ["polling"] => TransportType::Polling,
        _ => TransportType::WebsocketUpgrade,
    };
    let reporting = |saw: &'static str| {
        let socket = socket.to_owned();
        move |_: Payload, _: Client| {
            report(json!({ "socket": socket, "saw": saw }));
            async {}.boxed()
        }
    };
    let (refused, told) = (socket.to_owned(), socket.to_owned());

    ClientBuilder::new(text(command, "url"))
        .namespace(text(command, "namespace"))
        .auth(json!({ "token": command["token"] }))
        .transport_type(transport)
        .reconnect_delay(50, 500)
        .on(Event::Connect, reporting("connected"))
        .on(Event::Close, reporting("disconnected"))
        .on(Event::Error, move |error, _| {
            report_refusal(&refused, &error);
            async {}.boxed()
        })
        .on_any(move |event, payload, _| {
            report(json!({ "socket": told, "saw": "event", "event": event.to_string(), "args": arguments(payload) }));
            async {}.boxed()
        })
        .connect()
        .await
}

async fn ask(client: &Client, command: &Value, socket: String) -> Result<(), rust_socketio::Error> {
    let id = command["id"].clone();
    let answered = move |payload: Payload, _: Client| {
        // All arguments come as one array.
        let args = arguments(payload)[0].take();
        report(json!({ "socket": socket, "saw": "answer", "id": id, "args": args }));
        async {}.boxed()
    };
    client.emit_with_ack(text(command, "event"), payload(command), ANSWER_TIMEOUT, answered).await
}

/// Errors of the network are none: the client tries again.
fn report_refusal(socket: &str, error: &Payload) {
    let Payload::Text(words) = error else { return };
    let refusal =
        words.first().and_then(Value::as_str).and_then(|text| text.strip_prefix(CONNECT_ERROR));
    if let Some(refusal) = refusal.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
        report(
            json!({ "socket": socket, "saw": "refused", "message": refusal["message"], "data": refusal["data"] }),
        );
    }
}

fn report(record: Value) {
    println!("{record}");
}

fn text(command: &Value, key: &str) -> String {
    command[key].as_str().unwrap_or_default().to_owned()
}

/// The client sends bytes only as the one argument of an event. In commands and records they are `{"$bytes": "<base64>"}`.
fn payload(command: &Value) -> Payload {
    let args = command["args"].as_array().cloned().unwrap_or_default();
    match args
        .first()
        .and_then(|argument| argument["$bytes"].as_str())
        .map(|encoded| BASE64_STANDARD.decode(encoded))
    {
        Some(Ok(bytes)) => Payload::Binary(bytes.into()),
        _ => Payload::Text(args),
    }
}

fn arguments(payload: Payload) -> Value {
    match payload {
        Payload::Text(args) => Value::Array(args),
        Payload::Binary(bytes) => json!([{ "$bytes": BASE64_STANDARD.encode(bytes) }]),
        #[expect(deprecated, reason = "the client still has it")]
        Payload::String(text) => json!([text]),
    }
}

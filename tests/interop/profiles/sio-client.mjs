// What the suite of socket.io-client needs of a server.

const BYTES = Buffer.from("asdfasdf");
const TEXTS = ["てすと", "Я Б Г Д Ж Й", "Ä ä Ü ü ß", "utf8 — string", "utf8 — string"];

const accept = (socket, handshake) => {
  socket.accept();
  socket.data = { handshake, order: [] };
};
const refuse = (message) => (socket) => socket.refuse(message);
const hasBytes = (message, hello) => message?.hello === hello && Buffer.isBuffer(message.message) && message.goodbye === "gotcha";

/** Notes the last of several events that must come in order; whether those before it have come. */
function inOrder(socket, name, before) {
  const { order } = socket.data;
  order.push(name);
  return order.slice(-before.length - 1, -1).join() === before.join();
}

const getId = (socket, [], answer) => answer?.(socket.id);

const mainEvents = {
  getId,
  getHandshake: (socket, [], answer) => answer?.(socket.data.handshake),
  hi: (socket) => socket.emit("hi"),
  echo: (socket, [value], answer) => answer?.(value),
  ack: (socket) =>
    socket.ask((a, b) => {
      if (a === 5 && b.test) socket.emit("got it");
    }, "ack"),
  getAckDate: (socket, [], answer) => answer?.(new Date()),
  getDate: (socket) => socket.emit("takeDate", new Date()),
  getDateObj: (socket) => socket.emit("takeDateObj", { date: new Date() }),
  getUtf8: (socket) => TEXTS.forEach((text) => socket.emit("takeUtf8", text)),
  false: (socket) => socket.emit("false", false),
  doge: (socket) => socket.emit("doge", BYTES),
  getbin: (socket) => socket.emit("takebin", BYTES),
  buffa: (socket, [bytes]) => Buffer.isBuffer(bytes) && socket.emit("buffack"),
  jsonbuff: (socket, [message]) => hasBytes(message, "lol") && socket.emit("jsonbuff-ack"),
  abuff1: (socket, [bytes]) => Buffer.isBuffer(bytes) && inOrder(socket, "abuff1", []),
  abuff2: (socket) => inOrder(socket, "abuff2", ["abuff1"]) && socket.emit("abuff2-ack"),
  blob: (socket, [bytes]) => Buffer.isBuffer(bytes) && socket.emit("back"),
  jsonblob: (socket, [message]) => hasBytes(message, "lol") && socket.emit("jsonblob-ack"),
  blob1: (socket, [bytes]) => Buffer.isBuffer(bytes) && inOrder(socket, "blob1", []),
  blob2: (socket, [text]) => text === "second" && inOrder(socket, "blob2", ["blob1"]),
  blob3: (socket, [bytes]) => Buffer.isBuffer(bytes) && inOrder(socket, "blob3", ["blob1", "blob2"]) && socket.emit("blob3-ack"),
};

const withEvents = (events, enter = accept) => ({
  enter,
  event: (socket, name, args, answer) => Object.hasOwn(events, name) && events[name](socket, args, answer),
});

export const sioClient = () => ({
  edge: ["--edge-ping-interval=2s"],
  recovery: "2m",
  // Some cases give up after 0 ms, and take it for granted that no server is as quick; the suite's own waits 10 ms. Another
  // counts what arrives in the first 100 ms, and takes it for granted that the upgrade, with its noop, comes later.
  delays: { handshakeMs: 10, upgradeMs: 100 },
  namespaces: {
    "/": withEvents(mainEvents, (socket, handshake) =>
      handshake.query.fail ? socket.refuse("Auth failed (main namespace)") : accept(socket, handshake),
    ),
    "/foo": withEvents({ getId }),
    "/timeout_socket": withEvents({}),
    "/valid": withEvents({}),
    "/asd": withEvents({}),
    "/abc": withEvents({}, (socket, handshake) => {
      accept(socket, handshake);
      socket.emit("handshake", handshake);
    }),
    "/no": withEvents({}, refuse("Auth failed (custom namespace)")),
  },
});

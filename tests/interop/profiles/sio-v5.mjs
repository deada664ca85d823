// What Socket.IO's suite for protocol 5 needs: says what it was told at the entrance, and gives back what it is sent.

const enter = (socket, { auth }) => {
  socket.accept();
  socket.emit("auth", auth);
};

export const sioV5 = () => ({
  edge: ["--edge-ping-interval=300ms", "--edge-ping-timeout=200ms", "--edge-connect-timeout=1s", "--edge-cors-origin=*"],
  namespaces: {
    "/": {
      enter,
      event(socket, name, args, answer) {
        if (name === "message") socket.emit("message-back", ...args);
        if (name === "message-with-ack") answer?.(...args);
      },
    },
    "/custom": { enter, event() {} },
  },
});

// Two people write one text at the same time. Everyone applies the operations in the order of the room's log, and so has the
// same text in the end. Cursors are shown to whoever comes.

import { connect, next } from "../sockeye.mjs";

const room = "poem";

class Editor {
  text = "";
  cursors = new Map();

  static async open(name) {
    const editor = new Editor();
    const socket = await connect(name);
    editor.socket = socket;
    socket.on("cursor", (cursor) => editor.show(cursor));
    const { latest } = await socket.emitWithAck("join", room);
    for (const { data } of latest) editor.show(data);
    await new Promise((resolve) => {
      // Operations that arrive before this answer are in it, and those that arrive after it are not.
      socket.emit("history", { room, limit: 1000 }, ({ messages }) => {
        for (const operation of messages) editor.apply(operation);
        socket.on("operation", (operation) => editor.apply(operation));
        resolve();
      });
    });
    return editor;
  }

  show({ user, offset }) {
    this.cursors.set(user.name, offset);
  }

  apply({ offset, insert = "", delete: count = 0, position }) {
    this.text = this.text.slice(0, offset) + insert + this.text.slice(offset + count);
    this.position = position;
  }

  /** Sends an operation, and returns its place in the log. */
  async send(operation) {
    const { position } = await this.socket.emitWithAck("operation", { room, ...operation });
    return position;
  }

  /** Waits until an operation has arrived, and with it all before it. */
  async reach(position) {
    while (this.position !== position) await next(this.socket, "operation");
  }
}

const ann = await Editor.open("Ann");
const bob = await Editor.open("Bob");

// Nobody waits for anybody. A real editor would move offsets past what others have done meanwhile.
await Promise.all([
  ann.send({ offset: 0, insert: "roses are red " }),
  bob.send({ offset: 0, insert: "violets are blue " }),
]);
await ann.send({ offset: 0, delete: 1 });
await ann.socket.emitWithAck("cursor", { room, offset: 7 });

// Carol comes late: she has the text and Ann's cursor at once, and writes with the others.
const carol = await Editor.open("Carol");
console.log("Carol sees the cursors", JSON.stringify([...carol.cursors]));
const last = await carol.send({ offset: 0, insert: "A poem: " });
await Promise.all([ann, bob].map((editor) => editor.reach(last)));

console.log("the same text for all:", ann.text === bob.text && bob.text === carol.text);
console.log("letters:", ann.text.length, "beginning with:", ann.text.slice(0, 8));

const { error } = await bob.socket.emitWithAck("operation", { room, offset: 0, insert: "x", delete: 1 });
console.log(`${error.code}: ${error.message}`);

for (const { socket } of [ann, bob, carol]) socket.close();

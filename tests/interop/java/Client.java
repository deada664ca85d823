import io.socket.client.Ack;
import io.socket.client.IO;
import io.socket.client.Socket;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.URI;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

import static java.nio.charset.StandardCharsets.UTF_8;

/** Does with the Java client what it is told, and reports what it sees. */
public final class Client {
  private static final PrintStream REPORTS = new PrintStream(System.out, true, UTF_8);
  private static final Map<String, Socket> SOCKETS = new HashMap<>();

  public static void main(String[] none) throws Exception {
    var commands = new BufferedReader(new InputStreamReader(System.in, UTF_8));
    for (String line; (line = commands.readLine()) != null; ) {
      carryOut(new JSONObject(line));
    }
    System.exit(0);
  }

  private static void carryOut(JSONObject command) throws JSONException {
    var name = command.getString("socket");
    var socket = SOCKETS.get(name);
    switch (command.getString("do")) {
      case "connect" -> SOCKETS.put(name, connect(name, command));
      case "emit" -> socket.emit(command.getString("event"), args(command));
      case "ask" -> {
        var id = command.getInt("id");
        Ack answered = answer -> report(name, "answer", Map.of("id", id, "args", write(Arrays.asList(answer))));
        socket.emit(command.getString("event"), args(command), answered);
      }
      case "close" -> socket.close();
      default -> throw new IllegalArgumentException("unknown command: " + command);
    }
  }

  private static Socket connect(String name, JSONObject command) throws JSONException {
    var options = new IO.Options();
    options.forceNew = true;
    options.reconnectionDelay = 50;
    options.reconnectionDelayMax = 500;
    options.auth = Map.of("token", command.getString("token"));
    options.transports = list(command.getJSONArray("transports")).toArray(String[]::new);

    var socket = IO.socket(URI.create(command.getString("url") + command.getString("namespace")), options);
    socket.on(Socket.EVENT_CONNECT, args -> report(name, "connected", Map.of()));
    socket.on(Socket.EVENT_DISCONNECT, args -> report(name, "disconnected", Map.of()));
    socket.on(Socket.EVENT_CONNECT_ERROR, args -> {
      // The others are of the network, and the client tries again.
      if (args[0] instanceof JSONObject refusal) {
        report(name, "refused", Map.of("message", refusal.opt("message"), "data", refusal.opt("data")));
      }
    });
    socket.onAnyIncoming(args -> {
      var heard = new ArrayList<Object>(Arrays.asList(args));
      var answer = heard.get(heard.size() - 1) instanceof Ack ? (Ack) heard.remove(heard.size() - 1) : null;
      var event = heard.remove(0);
      report(name, "event", Map.of("event", event, "args", write(heard)));
      if (answer != null) {
        heard.add(0, "answer");
        answer.call(heard.toArray());
      }
    });
    return socket.connect();
  }

  private static void report(String socket, String saw, Map<String, Object> more) {
    var record = new HashMap<String, Object>(more);
    record.put("socket", socket);
    record.put("saw", saw);
    REPORTS.println(new JSONObject(record));
  }

  private static Object[] args(JSONObject command) throws JSONException {
    return list((JSONArray) read(command.getJSONArray("args"))).toArray();
  }

  private static List<Object> list(JSONArray array) throws JSONException {
    var items = new ArrayList<>();
    for (int i = 0; i < array.length(); i++) {
      items.add(array.get(i));
    }
    return items;
  }

  /** What came as JSON, with bytes for each {"$bytes": "BASE64"}. */
  private static Object read(Object value) throws JSONException {
    if (value instanceof JSONArray array) {
      var copy = new JSONArray();
      for (var item : list(array)) {
        copy.put(read(item));
      }
      return copy;
    }
    if (!(value instanceof JSONObject object)) {
      return value;
    }
    if (object.has("$bytes")) {
      return Base64.getDecoder().decode(object.getString("$bytes"));
    }
    var copy = new JSONObject();
    for (Iterator<?> keys = object.keys(); keys.hasNext(); ) {
      var key = (String) keys.next();
      copy.put(key, read(object.get(key)));
    }
    return copy;
  }

  /** What can become JSON. */
  private static Object write(Object value) {
    try {
      if (value == null) {
        return JSONObject.NULL;
      }
      if (value instanceof byte[] bytes) {
        return new JSONObject().put("$bytes", Base64.getEncoder().encodeToString(bytes));
      }
      if (value instanceof JSONArray array) {
        return write(list(array));
      }
      if (value instanceof List<?> items) {
        var copy = new JSONArray();
        for (var item : items) {
          copy.put(write(item));
        }
        return copy;
      }
      if (!(value instanceof JSONObject object)) {
        return value;
      }
      var copy = new JSONObject();
      for (Iterator<?> keys = object.keys(); keys.hasNext(); ) {
        var key = (String) keys.next();
        copy.put(key, write(object.get(key)));
      }
      return copy;
    } catch (JSONException error) {
      throw new IllegalStateException(error);
    }
  }
}

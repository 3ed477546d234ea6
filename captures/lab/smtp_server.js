// smtp-server of Node.js as mx.example.org: node smtp_server.js KEY CERTIFICATE
"use strict";
const fs = require("fs");
const { SMTPServer } = require("smtp-server");

const server = new SMTPServer({
    name: "mx.example.org",
    key: fs.readFileSync(process.argv[2]),
    cert: fs.readFileSync(process.argv[3]),
    disableReverseLookup: true,
    authOptional: true,
    onAuth(auth, session, callback) {
        const right = auth.username === "alice" && auth.password === "correct horse";
        callback(right ? null : new Error("Invalid username or password"), { user: auth.username });
    },
    onData(stream, session, callback) {
        stream.on("data", () => {});
        stream.on("end", () => callback(null, "Message queued"));
    },
});
server.listen(25, "0.0.0.0");

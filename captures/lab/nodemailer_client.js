// Two messages in one session by nodemailer: node nodemailer_client.js SERVER.
// Its debug log is the witness.
"use strict";
const nodemailer = require("nodemailer");

const transport = nodemailer.createTransport({
    host: process.argv[2],
    port: 25,
    name: "client.example.net",
    pool: true,
    maxConnections: 1,
    requireTLS: true,
    auth: { user: "alice", pass: "correct horse" },
    tls: { rejectUnauthorized: false, servername: "mx.example.org" },
    logger: true,
    debug: true,
});

async function main() {
    const messages = [["alice@example.org", "bob@example.org"], ["alice@example.org"]];
    for (const to of messages) {
        await transport.sendMail({
            from: "Sender <sender@example.net>",
            to,
            subject: "by nodemailer",
            text: "Hello,\n.a line that begins with a dot\n",
        });
    }
    transport.close();
}

main();

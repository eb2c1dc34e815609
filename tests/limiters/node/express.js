// express-rate-limit: `node express.js WINDOW_MS LIMIT false|draft-7 work|none DOCUMENT`. It prints its
// port, serves until its standard input ends, and prints how often it answered with which status.
const express = require("express");
const { rateLimit } = require("express-rate-limit");

const [windowMs, limit, headers, work, text] = process.argv.slice(2);
const document = JSON.parse(text);
const statuses = {};
const app = express();

app.use((request, response, next) => {
  response.on("finish", () => {
    statuses[response.statusCode] = (statuses[response.statusCode] || 0) + 1;
  });
  next();
});
app.use(
  rateLimit({
    windowMs: Number(windowMs),
    limit: Number(limit),
    standardHeaders: headers === "false" ? false : headers,
    legacyHeaders: false,
  }),
);
app.get("/api/flow-execution/:id", (request, response) => {
  const answer = () => response.json({ ...document, id: request.params.id });
  if (work === "work") setTimeout(answer, 30 + 30 * Math.random());
  else answer();
});

const server = app.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.resume();
process.stdin.on("end", () => {
  console.log(JSON.stringify(statuses));
  process.exit();
});

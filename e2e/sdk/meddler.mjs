// Somebody between an SDK and the stack. SDKs look at the chain before they ask the gateway, so what the gateway itself refuses is seen only by an
// SDK whose node lies to it: here the access list allows everything. And proofs are altered on their way to the gateway.

import { once } from "node:events";
import { createServer } from "node:http";
import { Interface } from "ethers";

/** The questions to the access list that are answered with yes. */
const QUESTIONS = new Interface([
  "function persistAllowed(bytes32,address) returns (bool)",
  "function isAllowedForDecryption(bytes32) returns (bool)",
  "function isHandleDelegatedForUserDecryption(address,address,address,bytes32) returns (bool)",
]);
const YES = `0x${"1".padStart(64, "0")}`;

async function read(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

/** Passes requests on; those with a body through `change`, which answers them with the help of what it passes on itself. */
async function passing(target, change) {
  const server = createServer(async (request, response) => {
    try {
      const body = await read(request);
      const { "content-length": _, connection: __, ...headers } = request.headers;
      const pass = (json) => fetch(target + request.url, { method: request.method, headers, body: json === undefined ? undefined : JSON.stringify(json) });
      const passed = body.length > 0 ? await change(request.url, JSON.parse(body.toString()), pass) : await pass();
      const kept = [...passed.headers].filter(([name]) => !["content-encoding", "transfer-encoding", "connection", "content-length"].includes(name));
      response.writeHead(passed.status, Object.fromEntries(kept));
      response.end(Buffer.from(await passed.arrayBuffer()));
    } catch (error) {
      response.writeHead(502).end(String(error));
    }
  });
  // An SDK that proves for longer than this would find its connection closed.
  server.keepAliveTimeout = 300_000;
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { server, url: `http://127.0.0.1:${server.address().port}` };
}

/** Starts it, and returns the stack as an SDK sees it from behind. */
export async function meddle(stack) {
  const acl = stack.contracts.ACL.toLowerCase();
  const lie = ({ id, method, params }) => {
    const [call] = params ?? [];
    const asks = method === "eth_call" && call.to?.toLowerCase() === acl && QUESTIONS.parseTransaction({ data: call.data ?? call.input });
    return asks ? { jsonrpc: "2.0", id, result: YES } : undefined;
  };
  const node = await passing(stack.rpcUrl, async (_, body, pass) => {
    // Questions may come as a batch: the others of it are passed on.
    const questions = [body].flat();
    const lies = questions.map(lie);
    const rest = questions.filter((_, index) => lies[index] === undefined);
    if (rest.length === questions.length) return pass(body);
    const told = lies.filter((answer) => answer !== undefined);
    const answers = rest.length > 0 ? [...told, ...(await (await pass(rest)).json())] : told;
    const headers = { "content-type": "application/json", "access-control-allow-origin": "*" };
    return new Response(JSON.stringify(Array.isArray(body) ? answers : answers[0]), { headers });
  });
  const gateway = await passing(stack.gatewayUrl, (path, body, pass) => {
    const proof = body.ciphertextWithInputVerification;
    if (!path.endsWith("/input-proof") || !proof) return pass(body);
    // One bit in the last part of the list, which holds the proof.
    const at = proof.length - 200;
    const flipped = (parseInt(proof[at], 16) ^ 1).toString(16);
    return pass({ ...body, ciphertextWithInputVerification: proof.slice(0, at) + flipped + proof.slice(at + 1) });
  });
  return {
    stack: { ...stack, rpcUrl: node.url, gatewayUrl: gateway.url },
    close() {
      node.server.close();
      gateway.server.close();
    },
  };
}

// Calls DRS and MGN with AWS's JavaScript clients, as it is told: each line of standard input is a call, each line of
// standard output what came of it. e2e/clients_peer_test.go is at the other end.
"use strict";

const readline = require("node:readline");

const packages = { drs: require("@aws-sdk/client-drs"), mgn: require("@aws-sdk/client-mgn") };
// Endpoint, region and credentials come from the environment, as in anybody's program.
const clients = { drs: new packages.drs.DrsClient({}), mgn: new packages.mgn.MgnClient({}) };

const commands = (pkg) => Object.keys(pkg).flatMap((name) => name.match(/^([A-Z]\w+)Command$/)?.[1] ?? []);

// pages reads a list with the client's own paginator and puts its pages together.
async function pages(service, operation, input) {
  const merged = {};
  for await (const page of packages[service]["paginate" + operation]({ client: clients[service], pageSize: 1 }, input)) {
    for (const [name, value] of Object.entries(page)) {
      if (Array.isArray(value)) merged[name] = [...(merged[name] ?? []), ...value];
    }
  }
  return merged;
}

async function call({ service, operation, input, paginate }) {
  try {
    if (paginate) return { output: await pages(service, operation, input) };
    const { $metadata, ...output } = await clients[service].send(new packages[service][operation + "Command"](input));
    return { output };
  } catch (e) {
    const kind = packages[service][e.name]; // the class that the client has for this error
    if (!e.$metadata || !kind) throw e;
    return { error: { code: e.name, message: e.message, modelled: e instanceof kind } };
  }
}

async function main() {
  console.log(JSON.stringify({ drs: commands(packages.drs), mgn: commands(packages.mgn) }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await call(JSON.parse(line))));
  }
}

main();

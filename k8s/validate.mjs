// `node validate.mjs MODULES < documents.json`: custom resources, checked against what npm packages know of them.
//
// Prints what is wrong, a line each, and exits with 1 if anything is. A package's validator knows types, patterns and
// bounds, but lets fields pass that it has never heard of; its TypeScript interface knows which fields there are, for
// the compiler lets a literal have no others. Both are asked. What no package has is in schemas/.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";

const PACKAGES = {
  "gateway.networking.k8s.io": "@kubernetes-models/gateway-api",
  "keda.sh": "@kubernetes-models/keda",
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
};

const modules = process.argv[2];
const load = (path) => import(pathToFileURL(join(modules, path)));
const { default: ts } = await load("typescript/lib/typescript.js");
const { default: Ajv } = await load("ajv/dist/2020.js");

const documents = JSON.parse(await text(process.stdin));
const known = documents.filter((document) => packageOf(document));

function packageOf({ apiVersion, kind }) {
  const [group, version] = apiVersion.split("/");
  return PACKAGES[group] && `${PACKAGES[group]}/${group}/${version}/${kind}`;
}

async function invalid(document) {
  const { [document.kind]: Model } = await load(`${packageOf(document)}.js`);
  try {
    new Model(document).validate();
    return [];
  } catch (error) {
    return [error.message];
  }
}

function invalidByOwnSchema(document) {
  const schema = JSON.parse(readFileSync(new URL(`schemas/${document.kind}.json`, import.meta.url), "utf8"));
  const validate = new Ajv({ allErrors: true }).compile(schema);
  return validate(document) ? [] : validate.errors.map((error) => `${error.instancePath} ${error.message}`);
}

// A program with a line for each document, and what the compiler has to say of it: [document, problem].
function illTyped() {
  const lines = known.map((document, n) => {
    const type = `I${document.kind}`;
    return `import type { ${type} as T${n} } from "${packageOf(document)}"; (${JSON.stringify(document)}) satisfies T${n};`;
  });
  // Never written: there it would lie, for the packages to be found.
  const file = join(modules, "..", "documents.ts");
  const options = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: [],
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    target: ts.ScriptTarget.ESNext,
  };
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists } = host;
  host.fileExists = (name) => name === file || fileExists(name);
  host.getSourceFile = (name, ...rest) =>
    name === file ? ts.createSourceFile(name, lines.join("\n"), ts.ScriptTarget.ESNext) : getSourceFile(name, ...rest);
  return ts.getPreEmitDiagnostics(ts.createProgram([file], options, host)).map((found) => [
    known[found.file.getLineAndCharacterOfPosition(found.start).line],
    ts.flattenDiagnosticMessageText(found.messageText, " "),
  ]);
}

function tell(document, problem) {
  console.log(`${document.kind}/${document.metadata.name}: ${problem}`);
  process.exitCode = 1;
}

for (const document of documents) {
  const problems = packageOf(document) ? await invalid(document) : invalidByOwnSchema(document);
  problems.forEach((problem) => tell(document, problem));
}
illTyped().forEach(([document, problem]) => tell(document, problem));

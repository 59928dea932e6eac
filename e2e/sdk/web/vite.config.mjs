import { defineConfig } from "vite";

// A page may use threads only if it is isolated from other origins, which its server asks for with these two headers.
const headers = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

export default defineConfig({
  base: "./",
  // The story and the contracts' artifacts are outside of this folder.
  server: { headers, fs: { allow: ["../../.."] } },
  preview: { headers },
  worker: { format: "es" },
  // SDKs find their WebAssembly next to their own files.
  optimizeDeps: { exclude: ["@zama-fhe/relayer-sdk", "@fhevm/sdk"] },
  // The names of errors' classes are looked at.
  build: { target: "es2022", minify: false, chunkSizeWarningLimit: 20_000 },
});

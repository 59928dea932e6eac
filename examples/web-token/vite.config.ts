import { defineConfig } from "vite";

// A page may use threads only if it is isolated from other origins, which its server asks for with these two headers. Without them everything
// works too, on one thread. Whoever serves the built page elsewhere has to send them there.
const headers = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

export default defineConfig({
  // The page works below any path.
  base: "./",
  server: {
    headers,
    // The token's bytecode is in the folder of the contract's own example.
    fs: { allow: [".."] },
  },
  preview: { headers },
  // The SDK runs in a worker and starts workers of its own for threads.
  worker: { format: "es" },
  // The SDK finds its WebAssembly next to its own file, which it would not be any more if the development server bundled it in advance.
  optimizeDeps: { exclude: ["@zama-fhe/relayer-sdk"] },
  build: { target: "es2022", chunkSizeWarningLimit: 2000 },
});

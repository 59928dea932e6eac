// The steps of a story with the time that each takes.

export class Steps {
  /** The finished steps: `name`, `seconds` and, of refusals, the error that the SDK has shown. */
  list = [];

  /** `show` is told about every step that is over. */
  constructor(show = () => {}) {
    this.show = show;
  }

  async run(name, step) {
    const start = performance.now();
    const finish = (more) => {
      const finished = { name, seconds: Number(((performance.now() - start) / 1000).toFixed(3)), ...more };
      this.list.push(finished);
      this.show(finished);
    };
    try {
      const result = await step();
      finish({});
      return result;
    } catch (error) {
      finish({ failed: true });
      throw new Error(`step "${name}" failed: ${error?.message ?? error}`, { cause: error });
    }
  }

  /** As `run`, for something that has to be refused; keeps how it was. */
  async refuse(name, step) {
    const start = performance.now();
    const { class: written, name: given, code, label, status, text } = await step();
    // Packages are minified or name all their errors alike, but no package does both.
    const error = /Error/.test(written) ? written : given;
    const finished = { name, seconds: Number(((performance.now() - start) / 1000).toFixed(3)), refused: { error, code, label, status, text } };
    this.list.push(finished);
    this.show(finished);
  }
}

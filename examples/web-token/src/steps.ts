// The list of what happened: every step with the time it takes, counting while it runs.

const list = document.querySelector<HTMLOListElement>("#steps")!;
const status = document.querySelector<HTMLElement>("#steps-status")!;

/** A bar of this many seconds has the full width; longer ones have no more. */
const FULL_BAR_SECONDS = 20;

function element(name: string, className: string, text = ""): HTMLElement {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

/** Runs a step, and shows its time. What goes wrong is marked in the list and thrown on. */
export async function step<Result>(name: string, work: () => Promise<Result>): Promise<Result> {
  const row = element("li", "step");
  const time = element("span", "time", "0.0 s");
  const bar = element("span", "bar");
  row.append(element("span", "name", name), time, bar);
  row.dataset.state = "running";
  list.prepend(row);

  const start = performance.now();
  const seconds = () => (performance.now() - start) / 1000;
  const show = (digits: number) => {
    time.textContent = `${seconds().toFixed(digits)} s`;
    bar.style.setProperty("--part", `${Math.min(100, (100 * seconds()) / FULL_BAR_SECONDS)}%`);
  };
  const timer = setInterval(() => show(1), 100);
  const finish = (state: "done" | "failed") => {
    clearInterval(timer);
    show(2);
    row.dataset.state = state;
    row.dataset.seconds = seconds().toFixed(2);
    // The list itself would be read out with every tick; screen readers hear the end of each step.
    status.textContent = `${name}: ${state}, ${seconds().toFixed(1)} seconds`;
  };
  try {
    const result = await work();
    finish("done");
    return result;
  } catch (error) {
    finish("failed");
    throw error;
  }
}

export function clearSteps(): void {
  for (const row of list.querySelectorAll('[data-state="done"], [data-state="failed"]')) row.remove();
}

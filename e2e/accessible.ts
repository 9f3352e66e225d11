import AxeBuilder from '@axe-core/playwright';
import { type App, expect } from './app.ts';

const rules = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];

/** WCAG 2.2 AA for what is shown now, as far as axe can tell. */
export async function expectAccessible(app: App, where: string): Promise<void> {
  const { violations } = await new AxeBuilder({ page: app.page }).withTags(rules).analyze();
  const found = violations.map(({ id, nodes }) => ({
    id,
    nodes: nodes.map(({ target, failureSummary }) => `${target.join(' ')}: ${failureSummary}`),
  }));
  expect(found, where).toEqual([]);
}

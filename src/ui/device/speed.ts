import type { EngineApi, GenerateEvent, GenerateResult } from '../../worker/api.ts';

/** A question like those the model is made for; greedy, so that every run does the same work. */
const question = '宝宝八个月，流清鼻涕两天，不发热，吃奶和精神都好，在家应该怎样护理？';
const sampling = {
  temperature: 0,
  topK: 0,
  topP: 1,
  repetitionPenalty: 1,
  maxTokens: 64,
};

export type Speed = Pick<
  GenerateResult,
  'prefillTokensPerSecond' | 'decodeTokensPerSecond' | 'outputTokens'
>;

/**
 * Tokens per second on this device, of one answer that nobody sees.
 * @throws Failure Busy while another answer runs, DeviceLost and others as `generate` does
 */
export async function measureSpeed(
  engine: Pick<EngineApi, 'generate'>,
  task: string,
  onEvent: (event: GenerateEvent) => void = () => undefined,
): Promise<Speed> {
  return engine.generate(
    { task, turns: [{ role: 'user', text: question }], sampling, seed: 1 },
    onEvent,
  );
}

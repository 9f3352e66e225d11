/** The three tasks of the published system, in the order of its paper. */
export const taskNames = ['medkqa', 'evidiag', 'trerecom'] as const;

export type TaskName = (typeof taskNames)[number];

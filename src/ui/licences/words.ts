/** What the page about licences says. */
export const licencesZh = {
  lead: '应用本身采用 MIT 许可。下面是随应用发布的软件部件、训练数据和模型的许可。',
  packages: '软件部件',
  data: '训练数据（已加载的模型）',
  noData: '模型还没有加载，或模型包没有写明训练数据。',
  records: (records: number) => `${records} 条`,
  missing: (reason: string) => `没能读到许可清单：${reason}`,
  open: '查看许可全文',
};

export const licencesEn: typeof licencesZh = {
  lead: 'The app itself is under the MIT licence. These are the licences of the software, the training data and the model that come with it.',
  packages: 'Software',
  data: 'Training data (of the loaded model)',
  noData: 'No model is loaded, or its package does not say what it was trained on.',
  records: (records) => `${records} records`,
  missing: (reason) => `The list of licences could not be read: ${reason}`,
  open: 'Show the text',
};

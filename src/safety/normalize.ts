/**
 * One spelling for what people type: compatibility forms folded (full-width digits, ℃), lower
 * case, the traditional characters that the rules need made simplified, numerals before a unit
 * turned into digits, and no spaces beside Chinese characters.
 */

const traditional =
  '發发熱热癲癫癇痫驚惊臉脸藥药針针頭头嘔呕腸肠氣气無无沒没會会個个歲岁電电傷伤燙烫誤误過过脹胀門门' +
  '斷断難难嚴严綠绿膽胆殺杀鐵铁農农異异嗆呛頸颈脫脱從从處处睪睾觸触壓压點点為为週周驗验還还這这' +
  '嬰婴兒儿龍龙寶宝後后來来麼么顏颜顔颜變变藍蓝體体溫温墜坠樓楼車车禍祸擊击淺浅緊紧見见現现歷历' +
  '癥症餵喂進进鈕纽鈎钩釦扣飲饮並并喪丧識识強强僵僵癱瘫齒齿鳴鸣顫颤瀉泻嚥咽蝕蚀額额臟脏開开陰阴' +
  '縫缝剛刚確确認认測测離离滿满儘尽幾几兩两灘滩攝摄傾倾飽饱凍冻淚泪褲裤濕湿軟软絲丝膚肤狀状癒愈' +
  '燒烧紅红腫肿癢痒喚唤縮缩絕绝爛烂壞坏嗎吗動动試试話话錯错彈弹頂顶項项腳脚顱颅腦脑嚇吓斃毙閃闪階阶陽阳臺台隻只條条齡龄產产養养嚥咽喫吃飯饭乾干' +
  '蟲虫潔洁劑剂醬酱糞粪疊叠窩窝輕轻結结殘残劃划親亲師师媽妈繼继輾碾啞哑竅窍唇唇脣唇賴赖迴回髮发燈灯吳吴線线檢检查查鎮镇靜静醫医療疗' +
  '東东讓让當当時时間间曾曾請请問问該该陣阵塊块歡欢樣样種种給给於于與与貧贫雙双蒼苍聲声';

const simplified = new Map<string, string>();
for (let i = 0; i + 1 < traditional.length; i += 2) {
  simplified.set(traditional.charAt(i), traditional.charAt(i + 1));
}

const numerals = '零一二三四五六七八九';

/** Reads a Chinese numeral below one hundred, or null where the characters are no such number. */
function readNumeral(text: string): number | null {
  const digit = (c: string): number => (c === '两' || c === '俩' ? 2 : numerals.indexOf(c));
  const ten = text.indexOf('十');
  if (ten < 0) return text.length === 1 && digit(text) >= 0 ? digit(text) : null;
  const [before, after] = [text.slice(0, ten), text.slice(ten + 1)];
  if (before.length > 1 || after.length > 1) return null;
  const tens = before === '' ? 1 : digit(before);
  const ones = after === '' ? 0 : digit(after);
  return tens < 1 || ones < 0 ? null : tens * 10 + ones;
}

const asDigits = (text: string): string => String(readNumeral(text) ?? text);

/** The text as the rules read it. Pure; positions do not agree with the original. */
export function normalize(text: string): string {
  return Array.from(text.normalize('NFKC').toLowerCase(), (c) => simplified.get(c) ?? c)
    .join('')
    .replace(/[\u00ad\u200b-\u200d\u2060\ufeff]/g, '')
    .replace(/[‘’]/g, "'")
    .replace(/[^\S\n]+/g, ' ')
    .replace(/(?<=[\u3000-\u303f\u4e00-\u9fff]) | (?=[\u3000-\u303f\u4e00-\u9fff])/g, '')
    .replace(
      /[零一二两俩三四五六七八九十]{1,4}(?=个|点|度|年|月|周|星期|天|日|岁|小时|次|片|粒|颗|整?瓶|米)/g,
      asDigits,
    )
    .replace(/(?<=\d[点度])[零一二两三四五六七八九](?![十个点度月天岁])/g, asDigits)
    .replace(/(\d\d)度半/g, '$1.5度')
    .replace(/(\d\d)度(\d)(?!\d|个|天|次)/g, '$1.$2度')
    .replace(/(\d) ?[.。·点] ?(\d)/g, '$1.$2')
    .trim();
}

import { isRuledOut } from './context.ts';

/** Age and temperature in normalised text: as much as the rules for fever need. */

const child =
  '(?:宝宝|宝贝|婴儿|婴|孩子|小孩|娃娃?|新生儿|小儿|患儿|儿子|女儿|女婴|男婴|bb|baby|infant|newborn|son|daughter|boy|girl|child|kid)';
const younger = '(?:小宝|二宝|三宝|老二|老三|弟弟|妹妹|小的)';
const soFar = '(?:现在|今天|今年|刚刚?|才刚?|只有|快|已经|大概|大约|还?不到|未满|还没|有|生下来)*';
const months = '(?:[12]个(?:半|多)?月|[12]个?\\+月|[12]个?月(?:余|多|半)|[12]个月零?\\d{1,2}天)';
const days = '(?:[1-8]?\\d(?:多|\\+)?天)';
const weeks = '(?:(?:\\d|1[0-2])(?:周|个?星期))';
const notDuration = '(?<![\\d.前后那这过几等每当了烧热咳连孕龄产])';
const notThen = '(?!的?时|之?[前后内]|以[来前后内]|[来没不都就])';

/** Nobody says these of an older child. */
const surelyYoung: readonly RegExp[] = [
  /新生儿|新生婴|刚出生|刚生下|出生(?:才|刚|没|不到|仅)?几天|(?:刚|没|未|不|还没出|还没)满月|满月(?:的)?(?:宝|娃|婴)|月子(?:里|宝)|没出月子|\bnewborn|\bneonat/,
  /(?:[未不没]满|不到|不足|小于|<|还没到|没到)3个?月|3个?月(?:以内|以下|内的?(?:宝|婴))|(?:under|less than|younger than|below) (?:3|three) months/,
  new RegExp(
    `(?<![\\d.前第后那这过几等每当有了烧热咳连])(?:${months}|[12]月|${days}|${weeks})(?:的?大|龄|的?小?${child})`,
  ),
  new RegExp(
    `(?:出生|生后|生下来|${younger})(?:后|才|刚|已经|了|有|仅)*(?:${months}|${days}|${weeks})(?!的?时)`,
  ),
  /(?:出生|生后)第?\d{1,2}天[^,。!?;\n]{0,4}(?:发?[烧热]|体温)/,
  /(?<![\d.])(?:[1-8]?\d[ -]days?|(?:\d|1[0-2])[ -]weeks?|(?:[12]|one|two)[ -]months?)[ -](?:old|baby|infant|newborn|girl|boy|son|daughter)/,
  new RegExp(
    `${child},? ?(?:is|was|aged?|only|just|about|now| )*(?<![\\d.])(?:[1-8]?\\d days?|(?:\\d|1[0-2]) weeks?|(?:[12]|one|two) months?)(?! (?:of|ago))`,
  ),
];

/** These are ages only where no other age is given: else they may say how long something lasts. */
const perhapsYoung: readonly RegExp[] = [
  new RegExp(
    `${child},?${soFar}${notDuration}(?:${months}|${days}|${weeks})${notThen}(?!了[^,。!?;])`,
  ),
  new RegExp(
    `(?:^|[,。!?;\\n、]|[男女他她]|才|刚)(?:现在|今天|今年)?${notDuration}${months}${notThen}(?=[,。!?;、 \\n]|$|大|[发高低]?[烧热]|体温)`,
  ),
  // A clause of its own before any symptom: 男,28天,发热38.3度
  /^(?:[^,。;!?\n]{0,6}[,、 ])?(?:[1-8]?\d天|(?:\d|1[0-2])周)(?=[,、; ])/,
  /[,、](?:1[4-9]|[2-8]\d)天(?=[,、; ])/,
];
const olderAge =
  /(?:[1-9]|1[0-8])(?:岁|周岁|[ -]years?|[ -]?yo\b)|(?<![\d.])(?:[3-9]|1\d|2\d|3[0-6])(?:个半?多?月(?!前|没)|月龄|[ -]months?[ -]old)|半岁/;

function saysUnderThreeMonths(text: string): boolean {
  if (surelyYoung.some((pattern) => pattern.test(text))) return true;
  return !olderAge.test(text) && perhapsYoung.some((pattern) => pattern.test(text));
}

const elsewhere = /(?:水|室|气|奶|油|空调|天气|室内|外面|户外|water|room|bath)[^,。;!?]{0,6}$/;
const ofTheBody =
  /(?:体温|腋[温下]|肛温|耳温|额温|口温|量了?|测|烧|发热|高热|温度计|身[上体]|\btemp|fever|\bbody)[^。;!?\n]{0,16}$/;

interface Reading {
  readonly celsius: number;
  /** A word of measuring or fever stands before it. */
  readonly ofTheBody: boolean;
}

/** Every body temperature that the text states, in degrees Celsius. */
function bodyTemperatures(text: string): Reading[] {
  const readings: Reading[] = [];
  const number = /(?<![\d.])(\d{2,3}(?:\.\d{1,2})?) ?(°? ?c\b|°?f\b|度|°|摄氏度|degrees?)?/g;
  for (const found of text.matchAll(number)) {
    const unit = (found[2] ?? '').replace(' ', '');
    const value = Number(found[1]);
    const celsius = unit.endsWith('f') || value > 90 ? ((value - 32) * 5) / 9 : value;
    const before = text.slice(Math.max(0, found.index - 24), found.index);
    const after = text.slice(found.index + found[0].length);
    const body = ofTheBody.test(before);
    if (celsius < 30 || celsius > 44 || elsewhere.test(before)) continue;
    if (unit === '' && (!body || /^[a-z一-鿿/%]/.test(after.trimStart()))) continue;
    readings.push({ celsius: Math.round(celsius * 10) / 10, ofTheBody: body });
  }
  return readings;
}

const feverWord =
  /发[高低]?烧|发[高低]?热|高烧|低烧|高热|低热|烧到|烧了|烧起来|有点烧|(?:额头|头|身上|浑身|全身|摸着)[^,。不没无]{0,3}(?:发烫|滚烫|很烫|好烫|烫)(?!伤)|\bfever|\bfebrile|high temp|running a temp/g;
const FEVER = 38;
const AXILLARY_FEVER = 37.5; // WHO IMCI counts from here where the thermometer was in the armpit

/** Under three months old with a fever, as a person tells it: by word or by number. */
export function youngInfantWithFever(text: string): boolean {
  if (!saysUnderThreeMonths(text)) return false;
  const threshold = /腋|armpit|axill/.test(text) ? AXILLARY_FEVER : FEVER;
  if (bodyTemperatures(text).some(({ celsius }) => celsius >= threshold)) return true;
  return [...text.matchAll(feverWord)].some(
    (word) => !isRuledOut(text, word.index, word.index + word[0].length),
  );
}

/** A body temperature below 35.5 or from 41 degrees. */
export function dangerousTemperature(text: string): boolean {
  return bodyTemperatures(text).some(
    (reading) => reading.celsius >= 41 || (reading.celsius < 35.5 && reading.ofTheBody),
  );
}

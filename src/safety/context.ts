/**
 * What stands around a match: 没有抽搐, 去年抽过一次 and 什么是惊厥 are no emergency. All of it leans to
 * warning: whatever is not clearly ruled out stays.
 */

const sentenceEnd = /[。!?;\n]|\.(?!\d)/;
const clauseEnd =
  /[,]|但是?|可是|不过|然而|却|而且|并且|现在|突然|忽然|今天|\bbut\b|\bnow\b|\bhowever\b/;

/** What may stand between a negation and the word it negates. */
const filler =
  '(?:有|过|再次?|明显|任何|出现|发生|伴|见到?|发现|看到|看见|什么|曾|继续|把|被|给|让|误|孩子|宝宝|患儿|' +
  '全身|四肢|热性|高热|持续|反复|这种|这些|上述|明确|典型|活动性|皮肤|嘴唇|口唇|面色)*';
const negatedDirectly = new RegExp(
  `(?<![有是能会])(?:没|无|否认|未|不伴|不是|并非|排除|不)${filler}$`,
);
/** 没有A、B和C: carried over a list, unless what is missing is itself the trouble (没有精神、…). */
const negatedInList =
  /(?<![有])(?:没有|没出现|无|否认|未见|未出现|不伴有?)(?!精神|尿|反应|呼吸|力气|意识|胃口|食欲|眼?泪|哭声|知觉|脉搏|心跳|缓解|好转|效|法|人|大人|故|缘)(?:[^,。、和及或与/]{1,10}(?:、|以?及|和|或者?|与|\/))+(?:任何|明显|其他)?$/;
const negatedInEnglish =
  /\b(?:no|not|without|never|denies|denied|no longer|(?:is|was|does|did|has|have|had|do|are|were)n't)(?: (?:any|a|an|the|had|have|has|having|been|be|signs?|of|evidence|obvious|more|further|got|ever|near|swallow|swallowed))* $/;
const negatedInEnglishList = /\b(?:no|without|denies|denied)\b[^,.;]*\b(?:or|nor) (?:a |any )?$/;
const negatedAfter =
  /^(?:的?(?:情况|症状|现象|表现))?(?:[:]|都|也|倒)?(?:没有|无|否认?|未见|\(-\)|阴性)(?=$|[,。.!?;、\n])/;

const pastMark =
  /去年|前年|先前|[\d一二两三四五六七八九十几半好]+(?:个多?)?(?:年|月)多?前|以前|从前|曾经|既往|小时候|\d岁[多半]?(?:时|的时候|那年|那会)|上个月|上次|那次|出生时|last (?:year|month|spring|summer|autumn|winter)|\b(?:years?|months?) ago|in the past|previously|used to|history of|when (?:he|she|they) (?:was|were)|as an? (?:baby|newborn|toddler|infant)/g;
const present =
  /今天|现在|刚|这次|本次|此次|又|再次|昨|目前|今[早晚晨]|正在|一直|\b(?:now|today|again|just|tonight|this (?:time|morning))\b/;
const pastAfter =
  /^[^。!?;\n]{0,8}?,?(?:那|还|都|已经)?是(?:在)?(?:去年|前年|以前|小时候|上个月|[\d几半好]+(?:个多?)?(?:年|月)多?前|\d岁)/;
const pastAfterInEnglish =
  /^[^.,;!?]{0,25}\b(?:last (?:year|month)|(?:years?|months?) ago|in the past|as an? (?:baby|newborn|toddler)|when (?:he|she) was)/;

/** A textbook question names no child, no day and no worry. */
const person =
  /孩子|宝宝|我家|我儿|女儿|儿子|患儿|男孩|女孩|男婴|女婴|娃|(?<!其)他|她|弟弟|妹妹|今天|现在|昨|刚|怎么办|怎么处理|急救|救命|\d(?:岁|个月|天|月龄)|\b(?:my|our|he|she|his|her|him|baby|son|daughter|now|today)\b/;
const textbookBefore =
  /(?:什么是|什么叫|何谓|简述|试述|概述|名词解释:?|what (?:is|are)(?: the)?(?: (?:definition|causes?|epidemiology|pathogenesis) of)?(?: an?)?)[^,。]{0,10}$/;
const textbookAfter =
  /^[^,。!?]{0,6}?(?:的|主要)?(?:定义|病因|发病机制|病理|诊断标准|鉴别诊断|流行病学|分型|分类|预后|并发症|临床表现|治疗原则|有哪些类型|(?:具体)?(?:是|指)?什么意思)/;

const lastPart = (text: string, end: RegExp): string => text.split(end).at(-1) ?? '';

function isNegated(sentence: string, match: string, after: string): boolean {
  const clause = lastPart(sentence, clauseEnd);
  if (negatedDirectly.test(clause) || negatedInEnglish.test(clause)) return true;
  if (negatedAfter.test(after)) return true;
  // 无发热、不吃奶: the second item brings its own negation and is not covered by the first.
  if (/[不没无未]|n't|not|no /.test(match)) return false;
  return negatedInList.test(clause) || negatedInEnglishList.test(clause);
}

function isPast(sentence: string, after: string): boolean {
  if (/^(?:发作)?(?:病)?史/.test(after)) return true;
  if (pastAfter.test(after)) return true;
  const ending = pastAfterInEnglish.exec(after);
  if (ending && !present.test(ending[0])) return true;
  const mark = [...sentence.matchAll(pastMark)].at(-1);
  if (!mark) return false;
  const between = sentence.slice(mark.index + mark[0].length);
  if (present.test(between)) return false;
  if (!between.includes(',')) return true;
  const clause = lastPart(between, /,/);
  return /^(?:当时|那时|那次|那会)/.test(clause) || /^过/.test(after) || /时候?,/.test(between);
}

function isTextbook(text: string, before: string, after: string): boolean {
  if (person.test(text)) return false;
  return textbookBefore.test(before) || textbookAfter.test(after);
}

/**
 * Whether the words around text[start, end) say that it is not there, long past, or only asked
 * about as in a textbook. `text` is normalised.
 */
export function isRuledOut(text: string, start: number, end: number): boolean {
  const sentence = lastPart(text.slice(0, start), sentenceEnd);
  const match = text.slice(start, end);
  const after = text.slice(end);
  return (
    isNegated(sentence, match, after) ||
    isPast(sentence, after) ||
    isTextbook(text, sentence, after)
  );
}

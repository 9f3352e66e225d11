import { dangerousTemperature, youngInfantWithFever } from './facts.ts';
import { say, type DangerSign } from './pattern.ts';

const stoolBlood = say`
  血便|便血|(?:便|屎|粪|拉|粑粑|臭臭)~(?:带|有|见|是|都是|含)~血
  |blood\w*[^.!?]{0,14}(?:stools?|poop?|diarrh|nappy|diaper)|(?:stools?|poop?) [^.!?]{0,14}blood
`;
const bellyTrouble = say`
  哭|腹痛|肚子~[痛疼]|呕?吐|呕|苍白|嗜睡|精神(?:很|比较|特别)?差|cry|scream|vomit|belly pain
  |abdominal pain|pale|letharg
`;

/** Signs of a severe illness. */
export const illnessSigns: readonly DangerSign[] = [
  {
    id: 'young-infant-fever',
    zh: '不满三个月的婴儿发热',
    en: 'Fever in a baby under three months',
    source: 'NICE NG143 2021',
    patterns: [],
    also: youngInfantWithFever,
  },
  {
    id: 'non-blanching-rash',
    zh: '压之不褪色的皮疹、出血点',
    en: 'Rash that does not fade under pressure',
    source: 'NICE NG143 2021',
    patterns: [
      say`
        (?:压|按)[^,。!?;\n]{0,6}(?:不|没)(?:会)?[褪退消变掉](?!烧|热)|[^,。!?;\n]{0,4}不[褪退]色
        |[瘀淤][点斑]|出?血[点斑]|出血性皮疹|紫癜|皮下出血|紫[红黑]?色?的?(?:疹|斑点?|小点|点点)
        |疹~发紫
      `,
      say`
        non-? ?blanch|petechia|purpur|purple (?:spots?|rash|dots)
        |(?:rash|spots?)[^.!?]{0,50}(?:not|n't) (?:fade|blanch|disappear|go away when)|glass test
      `,
    ],
  },
  {
    id: 'bulging-fontanelle',
    zh: '囟门鼓起',
    en: 'Bulging fontanelle',
    source: 'NICE NG143 2021',
    patterns: [
      say`(?:[囟囱卤]门|前囟|囟)~(?:鼓|隆|凸|突|膨|饱满|胀|张力~高)|头顶~软~鼓`,
      say`
        bulging (?:soft spot|fontan)|(?:fontanell?e?|soft spot)[^.,!?]{0,16}(?:bulg|swollen|tense)
      `,
    ],
  },
  {
    id: 'stiff-neck',
    zh: '脖子僵硬',
    en: 'Stiff neck',
    source: 'NICE NG143 2021',
    patterns: [
      say`(?:脖子|颈项|颈部|颈|项)(?!~(?:淋巴|肿块|包|结))~(?:强直|僵|发?硬|抵抗|[低弯]不|不能[低弯动])|颈强|脑膜刺激征`,
      say`stiff(?:ness of the)? neck|neck[^.,!?]{0,12} (?:stiff|rigid)|neck stiff|nuchal`,
    ],
  },
  {
    id: 'cannot-drink',
    zh: '不能喝水或吃奶',
    en: 'Cannot drink or breastfeed',
    source: 'WHO IMCI 2014',
    patterns: [
      say`
        (?:不|没法|无法|不能|不会|不肯|拒绝?|停止)(?:吃|喝|吸|吮)?(?:吃|喝|吸|吮)(?:母|配方)?奶(?!粉|瓶|酪|糖|嘴|制品|油|茶|片|的?时)
        |拒[奶食乳]|(?:水|奶)[^,。!?;\n]{0,2}(?:喝|吃|喂|咽)不(?:进|下|了)
        |[喝吃喂]不(?:进|下)(?:去|任何|一点|1点)?(?:水|奶|东西)
        |(?:不能|无法|没法)(?:喝水|饮水|进食|吞咽|吮吸|正常(?:喝|吃))
        |(?:吃奶|吮吸|吸吮|吸奶)~(?:无力|没力|没劲|吸不动)|滴水(?:不|未)(?:进|沾)|水米不进
        |不吃不喝|(?:什么|啥)都不(?:喝|吃不喝|吃,?也不喝)|1口[^,。!?;\n]{0,3}都不(?:吃|喝)
        |(?<![牛酸断])奶(?!粉|瓶|嘴)[^,。!?;\n]{0,2}不(?:吃|喝)(?!粉)
      `,
      say`
        (?:can't|cannot|can not|unable to|won't|refus\w+(?: to)?|not able to|too weak to|stopped|not|isn't|doesn't)(?: want to)? (?:drink|breast-?feed|feed|nurs|suck|swallow)(?:ing|e|s)?\b
        |refus\w+ (?:all )?(?:feeds?|milk|fluids?|the breast|the bottle|bottles?)
      `,
    ],
  },
  {
    id: 'vomits-everything',
    zh: '吃什么吐什么、频繁剧烈呕吐',
    en: 'Vomits everything',
    source: 'WHO IMCI 2014',
    patterns: [
      say`
        [吃喝喂](?:什么|啥)~吐|[吃喝](?:了|进去|点|口|水|奶|完)*(?:东西)?[就都]~吐|一[吃喝]~吐
        |全(?:部|都)?吐(?:了|出|光)|(?:吐个?|呕吐)不[停止]|不停~吐(?!泡|口水|舌)
        |一直(?:在)?(?:呕?吐)(?!泡|口水|舌)|(?:频繁|剧烈|顽固|反复|喷射[状性]?)~(?:呕吐|吐)
        |什么都[留存]不住
      `,
      say`
        vomit\w* (?:up )?everything|throw\w* (?:up )?everything(?: up)?
        |(?:can't|cannot|unable to|not able to|won't|can not) keep (?:anything|fluids?|water|milk|food)[^.,!?]{0,6}
        |projectile vomit|vomit\w* (?:non-?stop|constantly|repeatedly|continuously)
        |(?:keeps|persistent|won't stop|can't stop) vomiting
      `,
    ],
  },
  {
    id: 'bilious-vomit',
    zh: '呕吐物发绿（含胆汁）或呈咖啡色',
    en: 'Green (bilious) or coffee-ground vomit',
    source: 'WHO Pocket Book 2013',
    patterns: [
      say`
        (?:吐|呕)[^,。!?;\n不没无未拉便痰涕屎]{0,8}(?:绿(?!~(?:痰|便|屎|鼻))|胆汁|咖啡|苦水|粪)
        |绿色?~(?:水|东西|液体)~吐|胆汁[样性]|粪样
      `,
      say`
        (?:green|bile|bilious|coffee[- ]ground)\w*(?: \w+)? ?(?:vomit|sick\b|liquid vomit)
        |vomit\w*[^.,!?]{0,18}(?:green|bile|bilious|coffee)|throw\w* up[^.,!?]{0,14}(?:green|bile)
        |bilious
      `,
    ],
  },
  {
    id: 'bloody-stool',
    zh: '血便伴哭闹、腹痛（果酱样大便）',
    en: 'Bloody stool with crying or pain (currant jelly)',
    source: 'WHO Pocket Book 2013',
    patterns: [
      say`果酱[样色状]?|(?:拉|全是|都是)血(?![压糖管型丝象]|常规)|血水[样便]|柏油样?便|肠套叠`,
      [stoolBlood, bellyTrouble],
      say`(?:currant|red)[- ]jelly|jelly[- ]like stool|intussuscept|black tarry`,
    ],
  },
  {
    id: 'dehydration',
    zh: '八小时以上无尿或重度脱水',
    en: 'No urine for eight hours or severe dehydration',
    source: 'WHO IMCI 2014',
    patterns: [
      say`
        (?<!\d)(?:[89]|[1-4]\d)(?:个)?(?:多)?(?:小时|钟头)[^,。!?;\n]{0,6}(?:没|无|未|不)(?:有|怎么|见|再)?(?:撒|排|解|换)?(?:尿|小便)(?!床|频|痛|急)
        |(?:没|无|未)(?:有|怎么|见|再)?(?:撒|排|解)?(?:尿|小便)[^,。!?;\n床频痛]{0,6}(?:[89]|[1-4]\d)个?多?(?:小时|钟头)
        |(?:[1-3]|整|半|大半|1整)天[^,。!?;\n]{0,5}(?:没|无|未)(?:有|怎么)?(?:撒|排|解)?(?:尿|小便)(?!床|频|痛)
        |(?:1|整|一)(?:晚|夜|宿)~(?:没|无)有?尿(?!床)|无尿(?!频|急|痛|路|道)|(?:没有?|无)小便了?
      `,
      say`
        (?:重度|严重|中重度)脱水|脱水~(?:严重|厉害)|眼[窝眶睛]~(?:凹|陷)|(?:囟门|前囟)~(?:凹|陷)
        |皮肤~弹性~差|哭[^,。!?;\n]{0,4}(?:没|无)有?眼?泪
      `,
      say`
        (?:no|not|n't)(?: (?:had|a|any|been|have|passed|passing|wet|done|made))* (?:urine|urinat\w*|wee|weed|pee|peed|wet (?:nappy|nappies|diapers?)|nappy|nappies|diapers?)[^.!?]{0,24}(?:[89]|[1-4]\d|eight|ten|twelve|all day|a day) ?(?:h\b|hrs?|hours?|night)?
        |severe(?:ly)? dehydrat|sunken (?:eyes|fontan|soft spot)|cries without tears|no tears
      `,
    ],
  },
  {
    id: 'abnormal-cry',
    zh: '哭声微弱、尖直或持续哭闹不止',
    en: 'Weak, high-pitched or continuous cry',
    source: 'NICE NG143 2021',
    patterns: [
      say`
        哭声?~(?:尖|微弱|很弱|好弱|变弱|高调|无力|没力|像猫|异常)
        |(?:尖叫|尖声|高调|脑性尖叫)[样地]?(?:的)?(?:哭|尖叫)|脑性尖叫
        |(?:哭闹?|哭喊)(?:个)?(?:不停|不止|不休)
        |(?:持续|不停|不住|一直)(?:地|的|在)?(?:哭(?!吗)|尖叫)|哭了?[1-9]\d?个?多?小时
        |(?:怎么|咋)~(?:哄|安抚)~(?:不|没)|哄不(?:好|住|下)|无法安抚|哭得停不
      `,
      say`
        (?:weak|feeble|high[- ]?pitched|shrill|continuous|unusual)(?:,? \w+)? (?:cry|crying|scream)
        |inconsolabl|(?:won't|can't|doesn't|not) stop\w* (?:crying|screaming)
        |cry(?:ing)? (?:non-?stop|continuously|constantly|for hours)
        |cry (?:is|sounds) (?:weak|high|shrill|odd)|can't be (?:consoled|soothed|comforted)
      `,
    ],
  },
  {
    id: 'body-temperature',
    zh: '体温低于 35.5 ℃ 或达到 41 ℃',
    en: 'Body temperature below 35.5 °C or from 41 °C',
    source: 'WHO IMCI 2014; 儿童急性发热指南 2016',
    patterns: [say`体温(?:不升|过低)|(?<!降)低体温|超高热|hypothermi|hyperpyrexi`],
    also: dangerousTemperature,
  },
];

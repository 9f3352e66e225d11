import { say, type DangerSign } from './pattern.ts';

const medicine =
  /(?:药|美林|泰诺林?|布洛芬|对乙酰氨基酚|扑热息痛|糖浆|胶囊|降压|避孕|安眠|褪黑素|铁剂|维生素)/gu;
const tooMuch = say`
  (?:过量|超量|(?:吃|喝|服)(?:太|得太|了太|的太)?多了|(?:吃|喝|服|吞|灌)~(?:1整|整|半|1|大半|好几)(?:瓶|盒|板|把)(?!奶|水|牛|酸)|(?:吃|喝|服|吞)~(?:好几|[5-9]|\d\d)(?:片|粒|颗)|(?:整|半|1)(?:瓶|盒|板)~~(?:吃|喝|吞|服)|一大?把|量(?:弄|搞|喂|给)错|[2-9]倍的?量|翻了?倍)
`;
const trauma = say`
  (?:头|脑袋|脑门|后脑勺?|额头)~~(?:摔|撞|磕|碰|砸|着地|受伤|外伤)
  |(?:摔|撞|磕|碰|砸|跌|掉|坠|伤)~~(?:头|脑袋|脑门|后脑|额)|从~~(?:摔|掉|跌|滚|坠)|脑外伤|颅脑外伤
  |head injur|\b(?:hit|bang|bump|knock|fell)\w*\b[^.!?]{0,20}\bhead\b|fell (?:off|from|down|out)
  |fall from
`;
const brainTrouble = say`
  呕?吐|呕|嗜睡|昏|想睡|犯困|很困|爱睡|晕|迷糊|意识|叫不醒|抽搐|头痛剧烈|剧烈头痛
  |(?:鼻|耳)~流~(?:血|水|液)|瞳孔|vomit|throw\w* up|threw up|drows|sleepy|unconscious|passed out
  |knocked out|confus|seizure
`;
const burn = say`
  烫伤|烧伤|灼伤|烫着|被~(?:烫|烧|炸)|(?:开水|热水|热油|热汤|热粥|火锅|蒸汽)~~(?:烫|泼|洒|浇)
  |\bburn(?:s|ed|t)?\b|scald
`;
const badBurn = say`
  大面积|一大片|大片|整个|整只|整条|全身|半身|脸|面部|脖子|颈|眼|会阴|屁股|臀|胸|肚子|背|大腿
  |起~泡|掉皮|脱皮|(?:[23]|i{2,3})度|深度|手掌大
  |\b(?:face|facial|large|whole|chest|blister|severe|neck|genital|stomach|eyes?|back)
`;

/** Accidents, poisons and harm. */
export const injurySigns: readonly DangerSign[] = [
  {
    id: 'drowning',
    zh: '溺水',
    en: 'Drowning',
    source: 'ERC 2021',
    patterns: [
      say`
        溺(?:水|在|毙)|溺过水|(?:被|差点)~淹|淹(?:到|着|了|水|在)
        |(?:掉|跌|摔|滑)(?:进|到|入|在)?~(?:水里|水中|水池|河|池|井|塘|湖|海|浴缸|浴盆)|落水
        |呛~水~(?:泳|河|池)|(?:游泳|河里|泳池|洗澡)~呛水
      `,
      say`
        drown
        |(?:fell|fall|slipped) (?:in|into) (?:the |a )?(?:pool|water|river|pond|bath|lake|sea)
        |submerged|under ?water
      `,
    ],
  },
  {
    id: 'electric-shock',
    zh: '触电、雷击',
    en: 'Electric shock or lightning',
    source: 'ERC 2021',
    patterns: [
      say`触电|电击|雷击|被雷|漏电|(?:被|让)~电(?:到|了|着|倒|晕|麻)|插座~电|过电`,
      say`electrocut|electric(?:al)? shock|lightning|shocked by|live wire`,
    ],
  },
  {
    id: 'poisoning',
    zh: '误服药物、毒物或用药过量',
    en: 'Poisoning or medicine overdose',
    source: 'WHO ETAT 2016',
    patterns: [
      say`
        误[食服吃喝吞饮](?!~(?:电池|磁))|(?:吃|喝|服|喂|拿)错~药|(?:吃|喝|服)错了|服毒
        |(?<![酸碱])中毒(?!性(?!休克|脑病))|百草枯|敌敌畏|煤气~(?:熏|漏|味)|一氧化碳
      `,
      say`
        (?:吃|喝|吞|舔|咬|咽|食|服)~~(?:农药|老鼠药|鼠药|杀虫|蟑螂|除草剂|洁厕|漂白|消毒液|消毒水|84|汽油|煤油|酒精|白酒|洗衣|洗洁精|清洁剂|干燥剂|花露水|风油精|樟脑|水银|指甲油|胶水|(?<!病)毒药|毒物|有毒|野蘑菇)
        |(?:农药|老鼠药|消毒液|洗衣液|干燥剂|樟脑丸|花露水)~~(?:吃|喝|吞|咽)
      `,
      [medicine, tooMuch],
      say`
        poison|overdos|\bod'?d\b
        |(?:drank|drunk|swallow\w*|ate|eaten|ingest\w*|took|taken)[^.!?]{0,24}(?:bleach|detergent|pesticide|pills|tablets|medicine|medication|alcohol|antifreeze|cleaner|petrol|rat bait)
        |too (?:much|many) (?:paracetamol|acetaminophen|ibuprofen|medicine|tablets|pills|iron|tylenol|calpol)
        |carbon monoxide
      `,
    ],
  },
  {
    id: 'battery-or-magnet',
    zh: '吞下纽扣电池或磁铁',
    en: 'Swallowed button battery or magnets',
    source: 'ESPGHAN 2021',
    patterns: [
      say`
        (?:吞|咽|吃|误[食服]|塞|含|嚼|舔|进嘴|进肚)~~(?:电池|磁铁|磁力[珠球]|磁珠|巴克球|吸铁石|磁石)
        |(?:电池|磁铁|磁力[珠球]|磁珠|巴克球|吸铁石|磁石)~~(?:吞|咽|吃|误[食服]|塞|含|进|卡)
      `,
      say`
        (?:swallow|ate|eaten|ingest|put|stuck)\w*[^.!?]{0,30}(?:batter(?:y|ies)|magnets?)
        |(?:batter(?:y|ies)|magnets?)[^.!?]{0,30}(?:swallow|nose|ear\b|ingest)
      `,
    ],
  },
  {
    id: 'head-injury',
    zh: '头部受伤后呕吐、嗜睡或意识改变',
    en: 'Head injury with vomiting or drowsiness',
    source: 'NICE NG232 2023',
    patterns: [[trauma, brainTrouble]],
  },
  {
    id: 'fall-or-harm',
    zh: '高处坠落、车祸或受到伤害',
    en: 'Fall from height, road accident or being hurt by someone',
    source: 'NICE NG232 2023; NICE NG76 2017',
    patterns: [
      say`
        从~~(?:楼|高处|阳台|窗|树|屋顶|房顶|滑梯|梯子|[2-9]米|1\d米)~~(?:摔|掉|坠|跌|滚)
        |[摔掉坠跌]下~(?:楼|阳台|高处)|坠楼|高(?:处|空)坠落|跳楼|车祸|被~车~(?:撞|压|碾|轧)|虐待
        |家暴|性侵|猥亵|强奸|殴打
        |(?:被|遭)~(?:老师|同学|大人|别人|爸爸|妈妈|父亲|继父|继母|保姆|阿姨|叔叔)~(?:打|踢|掐|虐|摸)
        |剧烈摇晃|摇晃婴儿
      `,
      say`
        fell (?:from|off|out)[^.,!?]{0,20}(?:window|balcony|roof|height|tree|ladder|stor(?:e?y|ies)|floor\b|metres?|meters?)
        |fall from (?:a )?height|(?:car|road|traffic) accident|hit by a (?:car|truck|bus|motor)
        |run over|child abuse|(?:was|being|been|is) (?:abused|beaten|molested|assaulted)
        |sexual(?:ly)? (?:abuse|assault)|shaken baby
      `,
    ],
  },
  {
    id: 'burns',
    zh: '面部或大面积烧烫伤',
    en: 'Burn of the face or of a large area',
    source: 'WHO Pocket Book 2013',
    patterns: [
      [burn, badBurn],
      say`大面积[烧烫灼]|(?:[23]|i{2,3})度[烧烫灼]|化学~(?:烧|灼)|electrical burn|chemical burn`,
    ],
  },
  {
    id: 'testicular-pain',
    zh: '睾丸或阴囊疼痛、肿胀',
    en: 'Pain or swelling of a testicle',
    source: 'EAU/ESPU 2023',
    patterns: [
      say`(?:(?<!隐)睾丸?|阴囊|蛋蛋)~~(?:痛|疼|肿|扭转|变硬)|(?:痛|疼|肿)~(?:睾丸|阴囊|蛋蛋)`,
      say`
        testic\w*[^.,!?]{0,14} ?(?:pain|torsion|swell|swollen|hurt)
        |scrot\w*[^.,!?]{0,12} ?(?:pain|swell|swollen|hurt)
        |(?:painful|swollen|pain in (?:his|the|one|my)(?: \w+)?) (?:testic|scrot|balls?\b)
      `,
    ],
  },
  {
    id: 'self-harm',
    zh: '自伤或轻生念头',
    en: 'Thoughts of self-harm or suicide',
    source: 'NICE NG225 2022',
    patterns: [
      say`
        自[杀残]|自伤|割腕|不想活|(?:想|要)(?:去)?死(?!了你|你)|想(?:要)?(?:结束|了结)|轻生|寻死
        |寻短见|活着~(?:没|无)(?:有)?(?:意思|意义)|死了算了|(?:结束|了结)(?:自己)?的?生命|伤害自己
        |[划割]~(?:手臂|手腕|胳膊)
      `,
      say`
        suicid|self[- ]?harm|kill(?:ing)? (?:him|her|my|them)sel|want\w* to die
        |(?:hurt|harm|cut)(?:ting|ing|s)? (?:him|her|my|them)sel
        |end (?:his|her|my|their) (?:own )?life|no reason to live
      `,
    ],
  },
];

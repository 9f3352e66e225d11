import { say, type DangerSign } from './pattern.ts';

/** Airway, breathing, circulation, consciousness: what kills fastest. */
export const lifeSigns: readonly DangerSign[] = [
  {
    id: 'breathing-stopped',
    zh: '呼吸停止或暂停',
    en: 'Breathing has stopped or pauses',
    source: 'WHO ETAT 2016',
    patterns: [
      say`
        (?:没有?|停止|不会|不能)(?:了)?呼吸(?!困难|急促|道|音|窘|费力|异常|问题|不畅|暂停|增快|加快|衰竭|症状|系统|科|快|急|很)
        |呼吸~(?:停|骤停|没了|暂停)|没气了|断气|不喘气|窒息|呼吸衰竭|心跳~(?:停|没了)|没有?心跳
      `,
      say`apn(?:o)?ea|(?:stopped|stops|not|isn't|stop) breathing|no pulse`,
    ],
  },
  {
    id: 'unresponsive',
    zh: '叫不醒、昏睡或没有反应',
    en: 'Hard to wake, unconscious or not responding',
    source: 'WHO IMCI 2014',
    patterns: [
      say`
        (?:叫|喊|唤|弄|摇|拍|推|睡|掐)(?:都|也|了半天)?(?:不|没)(?:会|能|得|过来|有|怎么|大|太)*醒
        |昏[迷睡厥倒]|昏(?:过去|死过去)|昏(?:昏|沉)(?:欲睡|沉)|嗜睡|晕倒|晕(?:厥|过去)|不省人事
        |神志不清|意识(?:不清|模糊|丧失|障碍|没了)|(?:没|失去|丧失|无)(?:有|了)?(?:意识|知觉)
      `,
      say`
        (?:叫|喊|拍|推|掐|唤|逗)[^,。!?;\n]{0,5}(?:没|无|不)有?(?:反应|答应|理人)|毫?无反应
        |睁不开眼|(?:全身|浑身|身体|身子|手脚|四肢)~(?:软绵绵|瘫软|软软)|软绵绵~(?:没|无)
        |(?:一直|整天|都)在?迷迷?糊|反应(?:很|非常|特别|比较)?(?:差|低下|迟钝)
      `,
      say`
        unconscious|unresponsive|letharg
        |(?:won't|can't|cannot|couldn't|can not|not|doesn't|does not) wak(?:e|ing)
        |(?:hard|difficult|impossible) to (?:wake|rouse)|passed out|faint(?:ed|s)\b
        |(?:not|isn't|doesn't) respon|collapsed|very drowsy|floppy|(?<!a )\blimp\b
      `,
    ],
  },
  {
    id: 'convulsion',
    zh: '抽搐、惊厥',
    en: 'Convulsion or seizure',
    source: 'WHO IMCI 2014',
    patterns: [
      say`
        抽搐|[撅厥]过去|抽风|抽蓄|抽畜|抽触|惊[厥蹶撅]|惊风(?!散)|(?<![脚腿趾肚小手])抽筋
        |(?<!鼻子?)抽抽(?!噎|泣|搭)|癫痫|羊癫疯|羊角风|(?<!哭[^,。]{0,3})一抽一抽
        |(?:全身|四肢|手脚|浑身|身体|身子|孩子|宝宝|娃|烧|烧得|都|在|又|突然|会|直)抽(?!动[症秽障]|血|噎|泣|屉|奶|烟|空|痰|时间|怕|[1一]管)
      `,
      say`
        (?<!针[筒管]|注射器|血)抽(?:了|过|得|着|起来|个不停|[1-9几两][次下]|了?好几)(?!~(?:血|骨髓|积液|脊液|痰|烟|尿|管|鼻))
        |翻白眼|两?眼~(?:上翻|发直|凝视)|口吐白沫|(?:全身|四肢|手脚)~(?:抽动|强直|僵直|痉挛)
        |角弓反张
      `,
      say`
        seizure|convuls|\bfits?\b(?! (?:well|in|into|for|of))|fitting\b|eyes roll(?:ed|ing)
        |jerking
      `,
    ],
  },
  {
    id: 'cyanosis',
    zh: '嘴唇或皮肤发紫、发青、灰白',
    en: 'Blue, grey or very pale lips or skin',
    source: 'NICE NG143 2021',
    patterns: [
      say`
        发绀|紫绀|憋得?~[紫青](?!菜)
        |(?:嘴唇|口唇|嘴巴|嘴|唇|口周|脸|面|皮肤|全身|浑身|身上|指甲|手指|手脚|四肢|甲床|舌头?)~(?:发[紫青绀灰蓝乌]|变[紫青灰蓝]|[紫青](?:了|的)(?!1?[一个]?块)|青[紫灰]|灰白|乌[紫青]|铁青|死灰|憋得?[紫青])
      `,
      say`
        (?:脸|面)色?~(?:苍白|惨白|煞白|蜡黄发灰|青灰)|皮肤~(?:花斑|花纹|大理石)|口唇~苍白
        |(?:脸|面|嘴唇?|唇)[^,。!?;\n]{0,4}(?:没有?|无)血色
      `,
      say`
        cyano|(?:blue|bluish|grey|gray|purple)(?:ish)? (?:lips?|skin|face|tongue|around)
        |(?:lips?|skin|face|tongue|fingers?|baby|he|she)[^.,!?]{0,16} (?:blue|bluish|grey|gray|purple|ashen|mottled)
        |(?:turn|go)\w* (?:blue|grey|gray|purple)|mottled|ashen|very pale|deathly pale
      `,
    ],
  },
  {
    id: 'breathing-distress',
    zh: '呼吸困难：呻吟、胸部凹陷、喉鸣或非常快',
    en: 'Struggling to breathe: grunting, chest indrawing, stridor or very fast',
    source: 'WHO IMCI 2014',
    patterns: [
      say`
        呼吸~(?:困难|急|费[力劲]|窘迫|快|吃力|微弱|很浅)|喘憋|喘~(?:厉害|不行|得很)
        |(?:喘|透|上|接|缓)不(?:上|过|来)+~气|上不来气|喘不(?:上|过)来|上气不接下气|气促|气喘吁吁
        |[三吸]凹[征症]?|(?:胸|肋|锁骨|肋间|胸骨)~~(?:凹|下陷|塌陷|陷)|点头样?呼吸|鼻翼?[扇煽]
        |呻吟|喉[鸣喘]|喉梗阻|吸气~(?:喉|鸣|尖)|犬吠~喘
      `,
      say`
        呼吸~(?:6\d|7\d|8\d|9\d|1\d\d)(?!\d|\.|%)
        |(?:血氧|氧饱和度?|spo2|o2 ?sat)[^\d,。]{0,8}(?:[5-8]\d|9[01])(?!\d)
      `,
      say`
        (?:struggl|troubl|difficult|hard|fight)\w*(?: time)?(?: to| in| with)? breath
        |(?:can't|cannot|can not|unable to) (?:breathe|catch)|(?:short|out) of breath
        |shortness of breath|breath\w*[^.,!?]{0,12} (?:fast|hard|rapid)|(?:fast|rapid) breathing
        |grunting|indrawing|retractions?|stridor|sucking in|nasal flaring|flaring nostrils|gasping
      `,
    ],
  },
  {
    id: 'choking',
    zh: '异物卡喉或吸入',
    en: 'Choking on a foreign body',
    source: 'ERC 2021',
    patterns: [
      say`
        噎(?:住|着|到|了)|(?<![痰谈呼])(?:卡|堵)(?:住|在|到|着)~(?:喉|嗓|气管|气道)
        |(?:喉咙?|嗓子|气管|气道)(?!~[痰谈鼻呼])~(?:卡|堵住|噎)|异物~(?:吸入|卡|堵|进)
        |(?:吸入|气管)~异物|海姆[立利]克
        |(?:花生|坚果|瓜子|果冻|糖|玩具|硬币|豆子?|葡萄|汤圆|肉|苹果|饭)~(?:卡|呛|噎)
        |(?:卡|呛)~(?:花生|坚果|瓜子|果冻|硬币|豆)
      `,
      say`
        chok(?:e|ed|es|ing)\b|(?:stuck|lodged)[^.,!?]{0,10} (?:throat|airway|windpipe)
        |foreign body|heimlich|inhaled a
      `,
    ],
  },
  {
    id: 'anaphylaxis',
    zh: '严重过敏反应',
    en: 'Severe allergic reaction',
    source: 'WAO 2020',
    patterns: [
      say`过敏性?休克|严重~过敏(?!体质|源|性鼻炎)|(?:嘴唇|口唇|嘴巴|舌头?)~[^,。!?;\n不没无未烂疮]{0,2}肿|喉头?水肿`,
      [
        /过敏(?!性鼻炎|性咳嗽|性哮喘|体质|[源原])|荨麻疹|风团|蜇|(?:青霉素|头孢|疫苗|打针|输液)[^,。]{0,2}后|海鲜|花生|坚果/gu,
        /(?<![咳哮平止])喘(?!颗粒|灵|糖浆|宁|支)|呼吸困难|憋气|脸[^,。不没无]{0,2}肿|喉咙[^,。不没无]{0,2}[肿紧]|晕|意识/gu,
      ],
      say`
        anaphyla|(?:severe|serious|bad) allergic
        |(?:tongue|lips?|throat|face)[^.,!?]{0,14} (?:swell|swollen|closing|tight)
        |swollen (?:tongue|lips)|hives[^.!?]{0,30}(?:breath|wheez|vomit|swell)
      `,
    ],
  },
  {
    id: 'severe-bleeding',
    zh: '大量出血、止不住的血',
    en: 'Heavy bleeding that does not stop',
    source: 'WHO ETAT 2016',
    patterns: [
      say`
        大出血|大量~(?:出血|流血|失血|便血)|血~(?:止不住|流不止|停不下)|止不住~血(?!丝)
        |(?:出血|流血|血流)(?:不止|不停|如注)|喷血|喷射~血|鼻血~(?:止不住|不停|不止)
        |(?:吐|呕|咯|咳)~血(?![管丝象项糖压]|常规)|断[指肢]|动脉出血
      `,
      say`
        (?:heavy|severe|massive|uncontrolled) bleeding
        |bleed\w* (?:heavily|profusely|badly|a lot|non-?stop|won't stop|that won't stop)
        |(?:won't|can't|cannot|doesn't|does not|not) stop\w*(?: the)? bleed
        |bleed\w*[^.,!?]{0,20}(?:won't|can't|doesn't|does not|not) stop|vomit\w* blood
        |cough\w* (?:up )?blood
      `,
    ],
  },
];

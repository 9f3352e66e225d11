import type { Vignettes } from './vignettes.ts';

export const injuryVignettes: Readonly<Record<string, Vignettes>> = {
  drowning: {
    yes: [
      '孩子溺水了',
      '掉进泳池，救上来了',
      '在浴缸里淹到了',
      'She nearly drowned',
      'fell into the pool',
    ],
    no: ['没有溺水', '去年溺过水', 'he has never had a near drowning, no drowning', '游泳后耳朵疼'],
  },
  'electric-shock': {
    yes: ['孩子触电了', '手摸插座被电到了', '电击伤', 'electric shock from a socket'],
    no: ['没有触电', '去年触电过一次', 'no electric shock', '被电动车吓到了', '在家看电视'],
  },
  poisoning: {
    yes: [
      '误服了爷爷的降压药',
      '把美林喝了半瓶',
      '喝了一口消毒液',
      '有机磷农药中毒',
      '布洛芬过量了',
      'She swallowed some bleach',
      'paracetamol overdose',
      '吃错药了',
    ],
    no: [
      '没有误服药物',
      '没有吃错药',
      '去年误食过干燥剂',
      'no poisoning',
      '中毒性菌痢的病因',
      '布洛芬吃了5毫升，烧退了',
      '奶吃多了吐奶',
    ],
  },
  'battery-or-magnet': {
    yes: [
      '吞了纽扣电池',
      '宝宝可能把磁力珠咽下去了',
      '误吞纽扣电池2小时',
      'swallowed a button battery',
      'two magnets swallowed',
      '纽扣电池塞鼻子里',
    ],
    no: [
      '没有吞纽扣电池',
      '没有把电池吃下去，还在手里',
      '去年吞过一颗磁力珠，已经排出',
      'He did not swallow a battery',
      '玩具没电池了',
    ],
  },
  'head-injury': {
    yes: [
      '从床上摔下来，吐了两次',
      '撞到头以后一直想睡',
      '头部外伤后呕吐',
      'hit his head and is vomiting',
      '摔到后脑勺，没哭，后来迷糊',
      '头磕了，鼻子流血水',
    ],
    no: [
      '磕到头，没有呕吐，精神好',
      '摔了一下头，起了个包',
      '去年摔到头，吐过一次',
      'bumped her head, no vomiting',
      '没有摔到头，吐了两次',
    ],
  },
  'fall-or-harm': {
    yes: [
      '从三楼阳台掉下来',
      '孩子被老师打了',
      '车祸',
      'fell from the second floor window',
      '怀疑被虐待',
      'He was hit by a car',
    ],
    no: [
      '没有车祸',
      '没有从高处摔下来',
      '去年出过车祸',
      'not hit by a car',
      '没有被虐待',
      '自己走路摔了一跤，膝盖破皮',
    ],
  },
  burns: {
    yes: [
      '开水烫到脸了',
      '热粥泼在身上，烫伤一大片',
      'Ⅱ度烫伤，面积大',
      'burn on his face',
      '被火烧伤，起了水泡',
      '胸口被开水烫了，掉皮',
    ],
    no: [
      '没有烫伤',
      '额头很烫，脸红',
      '手指轻轻烫红一点',
      '去年脸被烫伤过',
      'no burns on the face',
      '用热水洗脸',
    ],
  },
  'testicular-pain': {
    yes: [
      '蛋蛋疼',
      '睾丸肿痛两小时',
      '阴囊红肿',
      'sudden testicular pain',
      'his testicle is swollen',
      '怀疑睾丸扭转',
    ],
    no: [
      '睾丸不疼',
      '没有睾丸疼痛',
      '去年睾丸扭转做过手术',
      'no testicular pain',
      '隐睾几岁手术',
      '睾丸无肿痛',
    ],
  },
  'self-harm': {
    yes: [
      '孩子说不想活了',
      '女儿割腕',
      '有自杀念头',
      'my daughter wants to die',
      '用刀划自己手臂',
      'self-harm',
    ],
    no: ['没有自杀想法', '否认自伤、自杀', '前年有过自残', 'no self-harm thoughts', 'not suicidal'],
  },
};

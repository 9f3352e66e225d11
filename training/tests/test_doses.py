"""Doses must be found in every usual spelling, and what only looks like one must stay."""

import pytest

from training.pedcorpus.doses import NOTICE, count_doses, strip_doses

DOSES = [
    "布洛芬每次5ml，每日3次。",
    "每次 0.5 片口服。",
    "一次半片，一天三次。",
    "10mg/kg",
    "吃两袋就行。",
    "每6小时一次，每次１００毫克。",
    "蒙脱石散一次1/3袋。",
    "口服5～10毫升。",
    "每天补400国际单位维生素D。",
    "滴3滴在鼻子里。",
    "一天吃2粒胶囊。",
    "阿莫西林0.25g口服。",
    "bid口服",
    "每日两次服用。",
    "维生素D每天800IU。",
    "可以减半服用。",
    "5岁以上半量，5岁以下1/3量。",
    "24小时可以吃4次。",
    "24小时内不能超过四次。",
    "四小时用一次。",
    "3,4小时一次。",
    "间隔6小时以上再用一次。",
    "退烧药4到6小时吃一次。",
    "一天吃两次药。",
    "饭后一天服两次。",
    "拉肚子的话，一天吃三次益生菌颗粒。",
    "每天打2次头孢。",
    "每天雾化2次。",
    "每日使用3-4次，连续使用5-7天。",
    "400U",
    "维生素D每天400u。",
    "口服10㎖，约5㎎。",
    "每次一小勺。",
    "每次两大勺。",
    "早晚各一次。",
    "早晚各吃一次。",
    "退烧药不要超过4次。",
    "药量可以减半。",
    "按体重10mg/kg。",
    "体重10公斤的孩子每次吃5ml。",
    "血糖低可以补葡萄糖5g。",
    "药一天吃三次吗？",
]
NOT_DOSES = [
    "体温38.5度，烧了3天。",
    "每天大便五六次，有奶瓣。",
    "孩子2岁4个月了，体重12公斤。",
    "血常规白细胞正常，6到8个月的宝宝可以坐。",
    "每天开窗通风两次，每次半小时。",
    "皮肤上有一片红疹。",
    "乳牙共二十颗。",
    "腋温达到37.5度以上一般认为是发热。",
    "持续超过五分钟要急救。",
    "由柯萨奇病毒A16型引起。",
    "五岁以下儿童多见。",
    "以前一天几次？",
    "以前一天几次",
    "大便一天几次呢？",
    "药一天吃几次？",
    "这几天用了几片？",
    "体重上升了300g。",
    "出生时体重3200克。",
    "血糖≥7.0mmol/L。",
    "空腹血糖7.0mmol。",
    "血红蛋白110g/L。",
    "总胆红素12mg/dl。",
    "转氨酶40U/L。",
    "尿量每天不到200毫升。",
    "奶量一天800毫升。",
    "一天大便三次。",
    "一天拉五六次。",
    "每天尿6次。",
    "24小时小便4次。",
    "一天吐了三次。",
    "一天吃5次奶。",
    "每天吃3次辅食。",
    "每天吃8次。",
    "每天打5次喷嚏。",
    "两三个小时吃一次奶。",
    "夜里两小时醒一次。",
    "四小时测一次体温。",
    "一年感冒不超过6次。",
]


@pytest.mark.parametrize("text", DOSES)
def test_doses_are_counted_and_replaced(text: str) -> None:
    assert count_doses(text) >= 1
    assert strip_doses(text).strip() == NOTICE


@pytest.mark.parametrize("text", NOT_DOSES)
def test_other_numbers_stay(text: str) -> None:
    assert count_doses(text) == 0
    assert strip_doses(text) == text


def test_only_the_sentence_with_the_dose_goes() -> None:
    text = "多喝水。美林每次4毫升，每6小时一次。泰诺林每次3ml。注意观察精神。"
    assert strip_doses(text) == f"多喝水。{NOTICE}注意观察精神。"


def test_the_notice_stands_once() -> None:
    text = "吃布洛芬5ml。多喝水。再吃头孢2片。注意休息。"
    assert strip_doses(text) == f"{NOTICE}多喝水。注意休息。"


def test_stripping_twice_changes_nothing() -> None:
    for text in DOSES:
        once = strip_doses("先看医生。" + text + "注意休息。")
        assert count_doses(once) == 0
        assert strip_doses(once) == once


def test_amounts_of_food_are_counted() -> None:
    assert count_doses("每天喝奶800毫升。") == 1


def test_lines_are_kept() -> None:
    assert strip_doses("第一行。\n每次5ml。\n第三行。") == f"第一行。\n{NOTICE}\n第三行。"

"""The page of runs: what is on it, and that it works in a browser without a network."""

from __future__ import annotations

import json
import re
import shutil
import sys

import numpy as np
import pytest

from gpgrad import config
from gpgrad.__main__ import main
from gpgrad.runs import stats
from gpgrad.viz import report
from tests.helpers.tiny_runs import tiny

STEPS = range(0, 1000, 100)


def write_run(folder, settings, top, **more):
    """A finished run as training leaves it, without training."""
    seeds = range(settings.seed, settings.seed + settings.seeds)
    rng = np.random.default_rng(settings.seed)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config.dump(settings))
    (folder / "manifest.json").write_text(json.dumps({"fingerprint": "0", "python": "3.11", "devices": ["cpu:0"]}))
    rows = [
        {"seed": s, "env_steps": t, "test_return": top * t / 900 + rng.normal(), "won": True, "list": [1.0], **more}
        for t in STEPS
        for s in seeds
    ]
    rows[0]["td_loss"], rows[-1]["td_loss"] = None, 0.5
    final = [{"seed": s, "test_return": top + s, **more} for s in seeds]
    for name, lines in {"metrics": rows, "final": final, "timing": [{"seconds": 90.0}, {"seconds": 120.0}]}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    conflict = {"conflict": [[0.0, 0.5, 0.4], [0.5, 0.0, 0.1], [0.4, 0.1, 0.0]], "roles": [0, 1, 0], "cloned": 3}
    return [
        write_run(root / "qmix-a", tiny(seeds=2), 10.0),
        write_run(root / "qmix-b", tiny(seeds=2, seed=2), 10.0),
        write_run(root / "fast", tiny(seeds=3, learner__lr=0.01), 30.0),
        write_run(root / "gradps", tiny("gradps", seeds=3), 20.0, **conflict),
        write_run(root / "games", config.load("matrix_additive", "vdn", {"log.wandb": "disabled"}), 5.0),
    ]


@pytest.fixture(scope="module")
def found(runs):
    return report.document(runs)


def test_runs_of_the_same_settings_are_one_entry(found):
    assert [entry["name"] for entry in found["entries"]] == [
        "qmix_fups, lr 0.0005",
        "qmix_fups, lr 0.01",
        "gradps",
        "vdn_fups",
    ]
    one = found["entries"][0]
    assert one["seeds"] == one["finished"] == [0, 1, 2, 3]
    assert len(one["runs"]) == 2
    assert found["worlds"] == ["pp_small", "matrix_additive"]
    assert found["differences"]["learner.lr"][:2] == [0.0005, 0.01]
    assert found["differences"]["sharing"] == ["fups", "fups", "gradps", "fups"]
    assert "seed" not in found["differences"]


def test_numbers_are_those_of_the_statistics(found):
    one = found["entries"][0]
    mean = stats.mean_interval([10, 11, 12, 13])
    np.testing.assert_allclose(one["final"]["mean"]["interval"], mean.interval, rtol=1e-5)
    assert (one["final"]["mean"]["mean"], one["final"]["median"], one["minutes"]) == (11.5, 11.5, 4.0)
    steps, centre, low, high = one["curves"]["test_return"]["mean"]
    column = [values[1][3] for values in one["curves"]["test_return"]["seeds"].values()]
    expected = stats.mean_interval(column)
    assert steps == list(STEPS)
    np.testing.assert_allclose([centre[3], low[3], high[3]], [expected.mean, *expected.interval], rtol=1e-4)
    assert found["metrics"] == ["test_return", "cloned", "td_loss"]
    assert "td_loss" not in one["curves"]  # one test is no curve
    assert found["entries"][2]["acted"]["cloned"] == 3
    assert found["entries"][3]["curves"]["test_return"]["mean"][2] == [None] * len(STEPS)  # one seed has no band


def test_commands_begin_the_same_runs(found, runs):
    for entry in found["entries"]:
        for command, folder in zip(entry["commands"], entry["runs"], strict=True):
            words = re.findall(r"--(\S+) (\S+)", command)
            changes = {name: value.strip("'") for name, value in words}
            again = config.load(changes.pop("env"), changes.pop("algo"), changes)
            begun = config.parse(runs[0].parent / folder / "config.yaml")
            assert config.fingerprint(again) == config.fingerprint(begun)


def test_the_same_seed_twice_is_another_entry(runs, tmp_path):
    again = shutil.copytree(runs[0], tmp_path / "again")
    names = [entry.name for entry in report.collect([runs[0], again])]
    assert names == ["qmix_fups (qmix-a)", "qmix_fups (again)"]


def test_one_file_holds_everything(runs, tmp_path, capsys):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "odd & <b>.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    out = tmp_path / "page.html"
    assert main(["report", *map(str, runs), "--out", str(out), "--pictures", str(pictures)]) == 0
    assert "4 configurations, 2 pictures" in capsys.readouterr().out
    text = out.read_text()
    assert text.count("<img") == text.count('src="data:image/svg+xml;base64,') == 2
    assert "odd &amp; &lt;b&gt;" in text
    assert "{{" not in text
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", text)


def test_a_page_needs_no_drawing_library(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("gpgrad.plots.installed", lambda: False)
    out = tmp_path / "page.html"
    assert main(["report", *map(str, runs), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "4 configurations, 0 pictures" in printed
    assert "heat maps are left out: they need matplotlib, pip install 'gpgrad[plot]'" in printed
    assert "qmix_fups" in out.read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "report needs folders of runs"),
        (["nowhere"], "nowhere holds no run: it must have config.yaml"),
        (["RUN", "--out", "page.pdf"], "--out must end in .html (got 'page.pdf')"),
        (["RUN", "--pictures", "nowhere"], "--pictures must be folders, and there is no nowhere"),
        (["RUN", "--output", "x.html"], "unknown option --output; did you mean 'out'"),
    ],
)
def test_mistakes_are_one_sentence(arguments, sentence, runs, capsys):
    assert main(["report", *(str(runs[0]) if word == "RUN" else word for word in arguments)]) == 2
    assert sentence in capsys.readouterr().err


@pytest.fixture(scope="module")
def browser():
    """A real Chromium that writes down every request."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("needs chromium and chromedriver, on Debian: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1200,1600"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def opened(browser, runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    assert main(["report", *map(str, runs), "--out", str(out)]) == 0
    browser.get(out.as_uri())
    return browser


def count(browser, css):
    return len(browser.find_elements("css selector", css))


def test_series_and_metrics_are_chosen(opened):
    assert count(opened, ".chart svg") == 2
    assert count(opened, "path.line") == 4
    assert count(opened, "path.band") == 3  # a single seed has none
    first = opened.find_element("css selector", "#series input")
    first.click()
    lines = opened.find_elements("css selector", "path.line")
    assert [line.get_attribute("data-series") for line in lines] == ["1", "2", "3"]
    first.click()
    opened.find_element("id", "single").click()
    assert count(opened, "path.seed") == 11
    opened.find_element("id", "single").click()
    opened.find_element("css selector", "#metric option[value=cloned]").click()
    assert count(opened, "path.line") == 1
    opened.find_element("css selector", "#metric option[value=test_return]").click()
    opened.find_element("css selector", "#centre option[value=iqm]").click()
    assert count(opened, "path.line") == 4
    opened.find_element("css selector", "#centre option[value=mean]").click()


def test_pointing_at_a_chart_tells_its_numbers(opened, found):
    from selenium.webdriver import ActionChains

    drawing = opened.find_element("css selector", ".chart svg")
    ActionChains(opened).move_to_element(drawing).perform()
    lines = opened.find_element("css selector", ".tip").text.splitlines()
    at = int(lines[0].removesuffix(" steps"))
    index = found["entries"][1]["curves"]["test_return"]["mean"][0].index(at)
    middle = found["entries"][1]["curves"]["test_return"]["mean"][1][index]
    assert lines[1].startswith(f"qmix_fups, lr 0.01 {middle:.4g}")  # the highest comes first
    ActionChains(opened).move_to_element(opened.find_element("tag name", "h1")).perform()
    assert not opened.find_element("css selector", ".tip").is_displayed()


def column(browser, place, index):
    return [e.text for e in browser.find_elements("css selector", f"#{place} tbody td:nth-child({index})")]


def test_tables_sort(opened):
    head = opened.find_element("css selector", "#results-table th:nth-child(5)")
    head.find_element("tag name", "button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert column(opened, "results-table", 1) == ["qmix_fups, lr 0.01", "gradps", "qmix_fups, lr 0.0005", "vdn_fups"]
    head.find_element("tag name", "button").click()
    assert column(opened, "results-table", 1) == ["vdn_fups", "qmix_fups, lr 0.0005", "gradps", "qmix_fups, lr 0.01"]
    heads = opened.find_elements("css selector", "#results-table th")
    cloned = next(i for i, each in enumerate(heads) if each.text == "neurons cloned")
    heads[cloned].find_element("tag name", "button").click()
    assert column(opened, "results-table", cloned + 1) == ["3", "-", "-", "-"]


def test_the_keyboard_is_enough(opened):
    from selenium.webdriver.common.keys import Keys

    opened.refresh()
    seen = []
    for _ in range(60):
        opened.switch_to.active_element.send_keys(Keys.TAB)
        now = opened.switch_to.active_element
        seen.append(now.get_attribute("id") or now.tag_name.split(":")[-1])
        if seen[-1] == "svg" and seen.count("svg") == 1:
            now.send_keys(Keys.ARROW_RIGHT)
            now.send_keys(Keys.ARROW_RIGHT)
            assert opened.find_element("id", "spoken").get_attribute("textContent").startswith("100 steps: ")
            now.send_keys(Keys.ESCAPE)
            assert not opened.find_element("css selector", ".tip").is_displayed()
        elif seen[-1] == "input" and seen.count("input") == 1:
            now.send_keys(Keys.SPACE)
            assert count(opened, "path.line") == 3
            now.send_keys(Keys.SPACE)
        elif seen[-1] == "button" and seen.count("button") == 1:
            now.send_keys(Keys.ENTER)
            assert column(opened, "results-table", 1) == sorted(column(opened, "results-table", 1))
            break
    named = ["theme", "metric", "centre", "single"]
    assert [name for name in seen if name in named] == named
    assert (seen.count("a"), seen.count("input"), seen.count("svg")) == (6, 4, 2)


def test_dark_and_light(opened):
    ground = lambda: opened.find_element("tag name", "body").value_of_css_property("background-color")
    before = ground()
    opened.find_element("id", "theme").click()
    assert ground() != before
    opened.find_element("id", "theme").click()
    assert ground() == before


def test_nothing_was_asked_of_a_network(opened):
    """Last, after all the clicking."""
    messages = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert any(url.startswith("file:") for url in asked)
    assert all(url.startswith(("file:", "data:")) for url in asked), asked
    assert [entry["message"] for entry in opened.get_log("browser")] == []


def test_runs_in_which_the_method_did_not_act_say_so(runs, tmp_path, browser):
    idle = write_run(tmp_path / "idle", tiny("gradps", seeds=2), 1.0, cloned=0)
    told = [entry["lacking"] for entry in report.document([*runs, idle])["entries"]]
    sentence = "no evidence about cloning: no neuron was cloned in any test (seeds 0 to 1)"
    assert told == [[], [], [], [], [sentence]]
    assert main(["report", str(idle), "--out", str(tmp_path / "page.html")]) == 0
    browser.get((tmp_path / "page.html").as_uri())
    (line,) = browser.find_elements("css selector", "#results-table p.hint")
    assert line.text == f"gradps on pp_small: {sentence}."

"""The figures that the demonstration must reach."""

from cggd import demo


def test_the_papers_settings():
    done = demo.run(seeds=10)
    assert [s.feasible for s in done[:3]] == [7805, 7808, 7579]
    for setting, most in zip(done, (0.35, 0.35, 0.35, 0.9), strict=True):
        assert setting.satisfied == 10
        assert setting.loss <= most

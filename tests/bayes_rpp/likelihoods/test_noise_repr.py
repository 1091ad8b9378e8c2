"""How likelihoods with one noise for each output are shown."""

from bayes_rpp import Gaussian, LaplaceNoise, StudentT


def test_noise_that_is_alike_for_all_outputs_is_written_once_and_reads_back():
    alike, different = Gaussian((0.1 + 0.2,) * 9), Gaussian((0.1, 0.2))
    assert repr(alike).startswith("Gaussian(noise_variance=(0.30000000000000004,) * 9, learned=False")
    assert "(0.1, 0.2)" in repr(different)
    for each in (alike, different, Gaussian(0.2, learned=True), LaplaceNoise((1.0, 1.0)), StudentT(4.0, (2.0,))):
        assert eval(repr(each)) == each

"""How far two float32 programs may be apart that compute the same."""

# Another program, shape, processor or number of threads adds the same terms in another order. A
# float32 sum loses 6e-8 of its terms at each rounding: of some 50 terms of up to 4, as the tiny
# models have them, 2e-6, and ten times that after three layers and their norms.
SAME = {"rtol": 1e-5, "atol": 2e-5}

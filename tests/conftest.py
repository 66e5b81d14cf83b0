from hypothesis import settings

# The same examples in every run, however slow the machine; nothing is kept between runs.
settings.register_profile("steady", derandomize=True, deadline=None, database=None)
settings.load_profile("steady")

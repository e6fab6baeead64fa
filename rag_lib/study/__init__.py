"""The study: its arms, its settings, its plan, and the runs that it comes to."""

from rag_lib.study.conduct import run as run
from rag_lib.study.conduct import run_gan as run_gan
from rag_lib.study.conduct import run_judge as run_judge
from rag_lib.study.conduct import run_quality as run_quality
from rag_lib.study.resolve import settings_for as settings_for

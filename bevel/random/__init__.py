from bevel.random.keys import *
from bevel.random.draws import *

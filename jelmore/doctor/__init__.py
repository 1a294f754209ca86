"""`jelmore doctor`: says in plain sentences what is wrong with an installation, from inside, from outside, or both.

`inside` and `canary` gather facts, `findings` and `outside` decide what they mean, `report` shows it. Facts: `facts`.
"""

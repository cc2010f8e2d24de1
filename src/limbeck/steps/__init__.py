"""What one stage needs of another, made ready and handed on: the lines of `pipeline`, each in a function.

`teacher` opens whoever is asked, `lessons` runs the training, `student` knows the model before and after it,
`examination` measures and advises, `registration` puts the result on its shelf, and `job` says whether one may begin.
"""

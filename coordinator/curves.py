def draw_curves(history, path, title):
    pass

"""MLflow runs, the registered scorer, promotion gates. [mlflow]"""
